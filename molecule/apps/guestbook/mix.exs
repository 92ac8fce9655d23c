defmodule Guestbook.MixProject do
  use Mix.Project

  def project do
    [
      app: :guestbook,
      version: "0.1.0",
      elixir: "~> 1.14",
      start_permanent: Mix.env() == :prod,
      # of these only the modules are wanted: hello would serve on its own if it were started
      releases: [guestbook: [applications: [hello: :load, p1_pgsql: :load]]],
      deps: [{:hello, path: "../hello", runtime: false}, postgres()]
    ]
  end

  def application do
    [mod: {Guestbook.Application, []}, extra_applications: [:logger, :crypto]]
  end

  # Debian's erlang-p1-pgsql, which is compiled already.
  defp postgres do
    case :code.lib_dir(:p1_pgsql) do
      {:error, :bad_name} -> Mix.raise("PostgreSQL for Erlang is missing: apt-get install erlang-p1-pgsql")
      path -> {:p1_pgsql, path: to_string(path), compile: "true", runtime: false}
    end
  end
end
