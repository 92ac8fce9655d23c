defmodule Hello.Application do
  @moduledoc false

  use Application

  @impl true
  def start(_type, _args) do
    Hello.Switches.boot!()
    Supervisor.start_link([Hello.Memory | server()], strategy: :one_for_one, name: Hello.Supervisor)
  end

  # Stopped in reverse: the listener first, which drains the connections.
  defp server do
    cond do
      Hello.Switches.never_healthy?() -> silent("HELLO_NEVER_HEALTHY is set")
      Application.fetch_env!(:hello, :server) -> listener(Application.fetch_env!(:hello, :port))
      true -> silent("PHX_SERVER is not true")
    end
  end

  defp listener(port) do
    name = "hello #{Hello.Version.current()}"
    options = [port: port, router: Hello.Router, name: name]
    [{Task.Supervisor, name: Hello.Http.Connections}, {Hello.Http.Listener, options}]
  end

  defp silent(reason) do
    IO.puts("hello does not listen: #{reason}")
    []
  end
end
