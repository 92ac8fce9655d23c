defmodule Ledger.Application do
  @moduledoc false

  use Application

  @impl true
  def start(_type, _args) do
    Supervisor.start_link(children(), strategy: :one_for_one, name: Ledger.Supervisor)
  end

  # Stopped in reverse: the listener first, which drains the connections.
  defp children do
    database = {Ledger.Database, Ledger.Database}
    if Application.fetch_env!(:ledger, :server), do: [database | listener()], else: [database]
  end

  defp listener do
    port = Application.fetch_env!(:ledger, :port)
    options = [port: port, router: Ledger.Router, name: "ledger #{Ledger.Version.current()}"]
    [{Task.Supervisor, name: Hello.Http.Connections}, {Hello.Http.Listener, options}]
  end
end
