defmodule Shop.MixProject do
  use Mix.Project

  def project do
    sqlite = to_string(:code.lib_dir(:p1_sqlite3))
    [app: :shop, version: "0.1.0", elixir: "~> 1.14", deps: [{:sqlite3, path: sqlite, compile: "true"}]]
  end

  def application, do: [mod: {Shop.Application, []}, extra_applications: [:logger]]
end
