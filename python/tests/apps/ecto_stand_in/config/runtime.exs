import Config

# as ecto_sqlite3 takes its options; what is not set has exqlite's defaults
options = fn prefix ->
  for {name, key} <- [CHECKPOINT: :wal_auto_check_point, BUSY: :busy_timeout, JOURNAL: :journal_mode],
      value = System.get_env("#{prefix}_#{name}"),
      do: {key, if(key == :journal_mode, do: String.to_atom(value), else: String.to_integer(value))}
end

config :shop, ecto_repos: [Shop.Repo, Shop.Cache, Shop.Elsewhere]
config :shop, Shop.Repo, [database: System.fetch_env!("DATABASE_PATH")] ++ options.("REPO")
config :shop, Shop.Cache, [database: System.get_env("CACHE_PATH", ":memory:")] ++ options.("CACHE")
