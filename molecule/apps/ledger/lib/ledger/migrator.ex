defmodule Ledger.Migrator do
  @moduledoc """
  Applies the files of priv/repo/migrations that `schema_migrations` does not name, in order of their versions.

  File names, table and transactions are as Ecto has them: each migration is in the database with its
  version, or not at all.
  """

  alias Ledger.Database

  @table "CREATE TABLE IF NOT EXISTS schema_migrations (version INTEGER PRIMARY KEY, inserted_at TEXT)"

  @doc "Returns the names of what it applied."
  def run do
    {:ok, database} = Database.start_link(__MODULE__)
    Database.query!(database, @table)
    applied = for {version} <- Database.query!(database, "SELECT version FROM schema_migrations"), do: version
    pending = Enum.reject(files(), fn {version, _} -> version in applied end)
    names = Enum.map(pending, &apply_one(database, &1))
    :sqlite3.close(database)
    names
  end

  defp files do
    :ledger
    |> Application.app_dir("priv/repo/migrations")
    |> Path.join("*.exs")
    |> Path.wildcard()
    |> Enum.map(&{version(Path.basename(&1)), &1})
    |> Enum.sort()
  end

  defp version(name) do
    {version, "_" <> _} = Integer.parse(name)
    version
  end

  defp apply_one(database, {version, file}) do
    [{module, _} | _] = Code.compile_file(file)
    up = if function_exported?(module, :up, 0), do: :up, else: :change

    Database.transaction!(database, fn ->
      apply(module, up, [])
      Database.query!(database, "INSERT INTO schema_migrations VALUES (?, ?)", [version, now()])
    end)

    Path.basename(file, ".exs")
  end

  defp now, do: NaiveDateTime.utc_now() |> NaiveDateTime.truncate(:second) |> NaiveDateTime.to_iso8601()
end
