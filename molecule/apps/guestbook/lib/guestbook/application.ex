defmodule Guestbook.Application do
  @moduledoc false

  use Application

  @impl true
  def start(_type, _args) do
    Supervisor.start_link(children(), strategy: :one_for_one, name: Guestbook.Supervisor)
  end

  # Stopped in reverse: the listener first, which drains the connections.
  defp children do
    pool = {Guestbook.Pool, Application.fetch_env!(:guestbook, :pool_size)}
    if Application.fetch_env!(:guestbook, :server), do: [pool | listener()], else: [pool]
  end

  defp listener do
    port = Application.fetch_env!(:guestbook, :port)
    options = [port: port, router: Guestbook.Router, name: "guestbook #{Guestbook.Version.current()}"]
    [{Task.Supervisor, name: Hello.Http.Connections}, {Hello.Http.Listener, options}]
  end
end
