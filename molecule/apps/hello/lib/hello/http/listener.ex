defmodule Hello.Http.Listener do
  @moduledoc """
  Listens on 127.0.0.1 and gives each connection a process of its own. Options: `port`, `router` (the module
  whose `call/1` answers a request) and `name`, what it calls itself in the log.

  When it is stopped it takes what the kernel has already accepted, closes the port, and waits until
  the connections have answered what they had begun.
  """

  use GenServer

  alias Hello.Http.Connection

  @connections Hello.Http.Connections
  @drain_ms 10_000
  # How long a stop may go unnoticed by the acceptor.
  @poll_ms 50
  @options [:binary, ip: {127, 0, 0, 1}, active: false, reuseaddr: true, nodelay: true] ++
             [backlog: 1024, buffer: 65_536, send_timeout: 30_000, send_timeout_close: true]

  def child_spec(options) do
    %{id: __MODULE__, start: {__MODULE__, :start_link, [options]}, shutdown: @drain_ms + 2_000}
  end

  def start_link(options), do: GenServer.start_link(__MODULE__, options, name: __MODULE__)

  @impl true
  def init(options) do
    Process.flag(:trap_exit, true)
    port = Keyword.fetch!(options, :port)

    case :gen_tcp.listen(port, @options) do
      {:ok, socket} -> {:ok, announce(options, acceptor(socket, Keyword.fetch!(options, :router)))}
      {:error, reason} -> {:stop, {:listen, port, reason}}
    end
  end

  defp announce(options, acceptor) do
    IO.puts("#{options[:name]} listens on 127.0.0.1:#{options[:port]}")
    %{acceptor: acceptor}
  end

  defp acceptor(socket, router), do: Task.async(fn -> accept(socket, router, @poll_ms) end)

  # With a wait of 0 the backlog is emptied, and the port closed the moment it is.
  defp accept(socket, router, wait) do
    case :gen_tcp.accept(socket, wait) do
      {:ok, connection} ->
        start(connection, router)
        accept(socket, router, next(wait))

      {:error, :timeout} when wait == 0 ->
        :gen_tcp.close(socket)

      {:error, :timeout} ->
        accept(socket, router, next(wait))

      # Out of file descriptors and the like pass; the listener must outlive them.
      {:error, _} ->
        Process.sleep(@poll_ms)
        accept(socket, router, next(wait))
    end
  end

  defp next(wait) do
    receive do
      :stop -> 0
    after
      0 -> wait
    end
  end

  defp start(connection, router) do
    {:ok, pid} = Task.Supervisor.start_child(@connections, Connection, :start, [connection, router])

    case :gen_tcp.controlling_process(connection, pid) do
      :ok -> send(pid, :begin)
      {:error, _} -> Process.exit(pid, :kill)
    end
  end

  @impl true
  def handle_info({:DOWN, _, _, _, reason}, state), do: {:stop, reason, state}
  def handle_info(_, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, state) do
    send(state.acceptor.pid, :stop)
    Task.await(state.acceptor, @drain_ms)
    drain(Task.Supervisor.children(@connections))
  end

  defp drain(pids) do
    references = Enum.map(pids, &Process.monitor/1)
    Enum.each(pids, &send(&1, :drain))
    deadline = now() + @drain_ms
    Enum.each(references, &await(&1, deadline))
  end

  defp await(reference, deadline) do
    receive do
      {:DOWN, ^reference, _, _, _} -> :ok
    after
      max(deadline - now(), 0) -> :late
    end
  end

  defp now, do: System.monotonic_time(:millisecond)
end
