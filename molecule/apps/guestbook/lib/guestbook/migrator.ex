defmodule Guestbook.Migrator do
  @moduledoc """
  Applies the files of priv/repo/migrations that `schema_migrations` does not name, in order of their versions.

  File names, table, lock and transactions are as Ecto has them: each migration is in the database with its
  version, or not at all, save where it says that it must not run in a transaction.
  """

  alias Guestbook.Connection

  @table "CREATE TABLE IF NOT EXISTS schema_migrations (version bigint PRIMARY KEY, inserted_at timestamp(0))"
  @lock "LOCK TABLE schema_migrations IN SHARE UPDATE EXCLUSIVE MODE"
  @done "INSERT INTO schema_migrations VALUES ($1, now() AT TIME ZONE 'UTC')"

  @doc "Returns the names of what it applied."
  def run do
    session = :guestbook |> Application.fetch_env!(:database_url) |> Connection.open()
    Process.put(__MODULE__, session)
    execute("SET client_min_messages = warning")
    execute(@table)
    applied = for {version} <- execute("SELECT version FROM schema_migrations"), do: version
    pending = Enum.reject(files(), fn {version, _} -> version in applied end)
    names = Enum.map(pending, &apply_one/1)
    Connection.close(session)
    names
  end

  def execute(sql, parameters \\ []) do
    Connection.query!(Process.get(__MODULE__), sql, parameters, :infinity)
  end

  defp files do
    :guestbook
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

  defp apply_one({version, file}) do
    [{module, _} | _] = Code.compile_file(file)
    up = if function_exported?(module, :up, 0), do: :up, else: :change
    how = module.__migration__()

    transaction(how.transaction?, fn ->
      if how.transaction? and how.lock?, do: execute(@lock)
      apply(module, up, [])
      execute(@done, [version])
    end)

    Path.basename(file, ".exs")
  end

  # One that fails ends the program, and with it the session and the transaction.
  defp transaction(false, work), do: work.()

  defp transaction(true, work) do
    execute("BEGIN")
    work.()
    execute("COMMIT")
  end
end
