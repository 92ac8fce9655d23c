defmodule Ledger.MixProject do
  use Mix.Project

  def project do
    [
      app: :ledger,
      version: "0.1.0",
      elixir: "~> 1.14",
      start_permanent: Mix.env() == :prod,
      # of hello only the modules are wanted: it would serve on its own if it were started
      releases: [ledger: [applications: [hello: :load]]],
      deps: [{:hello, path: "../hello", runtime: false}, sqlite()]
    ]
  end

  def application do
    [mod: {Ledger.Application, []}, extra_applications: [:logger, :crypto]]
  end

  # Debian's erlang-p1-sqlite3, which is compiled already; its directory and its application differ in name.
  defp sqlite do
    case :code.lib_dir(:p1_sqlite3) do
      {:error, :bad_name} -> Mix.raise("SQLite for Erlang is missing: apt-get install erlang-p1-sqlite3")
      path -> {:sqlite3, path: to_string(path), compile: "true"}
    end
  end
end
