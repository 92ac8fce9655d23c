defmodule Ledger.Release do
  @moduledoc "What a release can be asked to do without being started: `bin/migrate`, `bin/settings`."

  alias Ledger.{Database, Migrator}

  def migrate do
    case Migrator.run() do
      [] -> IO.puts("nothing to migrate")
      names -> Enum.each(names, &IO.puts("migrated #{&1}"))
    end
  end

  @doc "Prints the settings that every connection of this app has, as `database.settings` in deploy.yml asks."
  def settings do
    {:ok, database} = Database.start_link(:anonymous)
    database |> Database.real_settings() |> Hello.Json.encode() |> IO.puts()
    :sqlite3.close(database)
  end
end
