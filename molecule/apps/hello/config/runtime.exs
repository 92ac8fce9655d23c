import Config

case config_env() do
  :prod ->
    config :hello,
      port: String.to_integer(System.fetch_env!("PORT")),
      host: System.get_env("PHX_HOST", "localhost"),
      server: System.get_env("PHX_SERVER") in ["true", "1"]

  :dev ->
    config :hello, port: 4000, host: "localhost", server: true

  :test ->
    config :hello, port: 4002, host: "localhost", server: false
end
