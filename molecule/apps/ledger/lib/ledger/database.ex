defmodule Ledger.Database do
  @moduledoc """
  A connection to the SQLite file, a process of its own, with the settings that Litestream needs.

  One serves the whole app, under this module's name: the driver works through one thread for each file, so a
  second would wait for the first.

  Nothing here ever checkpoints: that is Litestream's part, and whoever else does it tears holes into the copy.
  """

  defmodule Error do
    defexception [:message]
  end

  @busy_ms 5_000
  # Beyond the longest wait for a lock, so that it is SQLite that gives up, and says why.
  @patience_ms 30_000

  def child_spec(name), do: %{id: name, start: {__MODULE__, :start_link, [name]}}

  @doc "Opens the file of the configuration; `name` is where its process is found, or `:anonymous`."
  def start_link(name) do
    file = Application.fetch_env!(:ledger, :database)

    with {:ok, database} <- :sqlite3.open(name, file: String.to_charlist(file)) do
      Enum.each(settings(), &query!(database, "PRAGMA #{&1}"))
      {:ok, database}
    end
  end

  # As ecto_sqlite3 does, save for its wal_autocheckpoint of 1000. Who waits for a lock is set first.
  defp settings do
    checkpoint = Application.fetch_env!(:ledger, :autocheckpoint)

    ["busy_timeout = #{@busy_ms}", "wal_autocheckpoint = #{checkpoint}"] ++
      ["journal_mode = wal", "synchronous = normal", "foreign_keys = on"]
  end

  @doc "The rows of a statement as tuples, for an INSERT its row's number. Raises Ledger.Database.Error."
  def query!(database, sql, parameters \\ []) do
    case :sqlite3.sql_exec_timeout(database, sql, parameters, @patience_ms) do
      [columns: _, rows: rows] -> rows
      [{:columns, _}, {:rows, _}, {:error, _, reason}] -> raise Error, "#{reason}: #{sql}"
      {:rowid, number} -> number
      :ok -> []
      {:error, _, reason} -> raise Error, "#{reason}: #{sql}"
      {:error, reason} -> raise Error, "#{inspect(reason)}: #{sql}"
    end
  end

  @doc "Runs `work` in one transaction, which holds the lock for writing from its beginning."
  def transaction!(database, work) do
    query!(database, "BEGIN IMMEDIATE")

    try do
      tap(work.(), fn _ -> query!(database, "COMMIT") end)
    rescue
      error ->
        query!(database, "ROLLBACK")
        reraise error, __STACKTRACE__
    end
  end

  @doc "What the connection's settings really are, as `bin/settings` prints them."
  def real_settings(database) do
    %{
      path: main(query!(database, "PRAGMA database_list")),
      wal_autocheckpoint: pragma(database, "wal_autocheckpoint"),
      busy_timeout: pragma(database, "busy_timeout"),
      journal_mode: pragma(database, "journal_mode"),
      sqlite_version: database |> query!("SELECT sqlite_version()") |> hd() |> elem(0)
    }
  end

  defp pragma(database, name), do: database |> query!("PRAGMA #{name}") |> hd() |> elem(0)
  defp main(files), do: Enum.find_value(files, fn {_, name, file} -> name == "main" and file end)
end
