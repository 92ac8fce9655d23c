defmodule UmbrellaWeb.Application do
  @moduledoc false

  use Application

  @impl true
  def start(_type, _args) do
    Supervisor.start_link(server(Application.get_env(:umbrella_web, :server, false)), strategy: :one_for_one)
  end

  defp server(false), do: []

  defp server(true) do
    [%{id: :httpd, start: {:inets, :start, [:httpd, options(), :stand_alone]}, type: :supervisor}]
  end

  # Any directory that exists does for the roots: nothing is served from files.
  defp options do
    root = :code.priv_dir(:kernel) |> Path.dirname() |> String.to_charlist()

    [
      bind_address: {127, 0, 0, 1},
      port: Application.fetch_env!(:umbrella_web, :port),
      server_name: ~c"umbrella",
      server_root: root,
      document_root: root,
      keep_alive_timeout: 600,
      modules: [UmbrellaWeb.Handler]
    ]
  end
end
