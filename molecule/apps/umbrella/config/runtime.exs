import Config

if config_env() == :prod do
  config :umbrella_web,
    port: String.to_integer(System.fetch_env!("PORT")),
    server: System.get_env("PHX_SERVER") in ["true", "1"]
end
