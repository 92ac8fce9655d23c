import Config

case config_env() do
  :prod ->
    config :ledger,
      port: String.to_integer(System.fetch_env!("PORT")),
      server: System.get_env("PHX_SERVER") in ["true", "1"],
      database: System.fetch_env!("DATABASE_PATH")

  :dev ->
    config :ledger, port: 4010, server: true, database: "ledger_dev.db"

  :test ->
    config :ledger, port: 4012, server: false, database: "_build/ledger_test.db"
end

# 0, or Litestream's copies get holes; SQLite's own default, 1000, shows what Homeport says to that
config :ledger, autocheckpoint: String.to_integer(System.get_env("LEDGER_AUTOCHECKPOINT", "0"))
