defmodule UmbrellaWeb.MixProject do
  use Mix.Project

  def project do
    [
      app: :umbrella_web,
      version: "0.1.0",
      build_path: "../../_build",
      config_path: "../../config/config.exs",
      deps_path: "../../deps",
      lockfile: "../../mix.lock",
      elixir: "~> 1.14",
      start_permanent: Mix.env() == :prod,
      deps: [{:umbrella_core, in_umbrella: true}]
    ]
  end

  def application do
    [mod: {UmbrellaWeb.Application, []}, extra_applications: [:logger, :inets]]
  end
end
