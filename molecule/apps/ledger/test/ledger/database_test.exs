defmodule Ledger.DatabaseTest do
  use ExUnit.Case

  alias Ledger.Database

  setup do
    Database.query!(Database, "DROP TABLE IF EXISTS things")
    Database.query!(Database, "CREATE TABLE things (name TEXT UNIQUE)")
    :ok
  end

  test "a transaction that fails leaves nothing, and the connection usable" do
    assert_raise Database.Error, ~r/UNIQUE/, fn ->
      Database.transaction!(Database, fn ->
        for _ <- 1..2, do: Database.query!(Database, "INSERT INTO things VALUES ('a')")
      end)
    end

    assert Database.query!(Database, "SELECT * FROM things") == []
    assert Database.transaction!(Database, fn -> insert("b") end) == 1
    assert Database.query!(Database, "SELECT * FROM things") == [{"b"}]
  end

  test "a mistake in SQL is raised with the SQL" do
    assert_raise Database.Error, ~r/syntax error: nonsense/, fn ->
      Database.query!(Database, "nonsense")
    end
  end

  test "the connection has the settings that Litestream needs" do
    settings = Database.real_settings(Database)
    assert %{wal_autocheckpoint: 0, busy_timeout: 5000, journal_mode: "wal"} = settings
    assert settings.path == Path.expand("_build/ledger_test.db")
  end

  defp insert(name), do: Database.query!(Database, "INSERT INTO things VALUES (?)", [name])
end
