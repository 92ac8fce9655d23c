defmodule Hello.MixProject do
  use Mix.Project

  def project do
    [
      app: :hello,
      version: "0.1.0",
      elixir: "~> 1.14",
      start_permanent: Mix.env() == :prod,
      aliases: aliases(),
      deps: []
    ]
  end

  def application do
    [mod: {Hello.Application, []}, extra_applications: [:logger, :crypto]]
  end

  # Phoenix's name for the step that a deployer runs before `mix release`.
  defp aliases do
    ["assets.deploy": ["hello.digest"]]
  end
end
