import Config

# As Homeport gives it, in Ecto's form: ecto://user@localhost/name?socket_dir=/run/homeport-guestbook-postgres
config :guestbook,
  database_url: System.get_env("DATABASE_URL", "ecto://#{System.get_env("USER")}@localhost/guestbook"),
  pool_size: String.to_integer(System.get_env("POOL_SIZE", "10"))

case config_env() do
  :prod ->
    config :guestbook,
      port: String.to_integer(System.fetch_env!("PORT")),
      server: System.get_env("PHX_SERVER") in ["true", "1"],
      database_url: System.fetch_env!("DATABASE_URL")

  :dev ->
    config :guestbook, port: 4020, server: true

  :test ->
    config :guestbook, port: 4022, server: false, pool_size: 2
end
