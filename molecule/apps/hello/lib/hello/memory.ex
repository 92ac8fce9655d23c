defmodule Hello.Memory do
  @moduledoc "Holds as many megabytes as it is told, every page of them written to."

  use Agent

  @page :binary.copy(<<1>>, 4096)
  @pages 256

  def start_link(_) do
    Agent.start_link(fn -> held(Hello.Switches.eat_memory_mb()) end, name: __MODULE__)
  end

  @doc "Holds `mb` megabytes in place of what was held before; 0 gives all back."
  def hold(mb) do
    Agent.update(__MODULE__, fn _ -> [] end)
    # Freed now: an idle process may not collect its garbage for ever.
    :erlang.garbage_collect(Process.whereis(__MODULE__))
    Agent.update(__MODULE__, fn _ -> held(mb) end, :infinity)
    mb
  end

  defp held(mb), do: for(_ <- 1..mb//1, do: :binary.copy(@page, @pages))
end
