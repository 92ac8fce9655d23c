defmodule Guestbook.DatabaseTest do
  use ExUnit.Case

  alias Guestbook.{Connection, Database}

  setup do
    Database.query!("DROP TABLE IF EXISTS things")
    Database.query!("CREATE TABLE things (id bigint, name text UNIQUE)")
    :ok
  end

  test "values come back as they went in" do
    Database.query!("INSERT INTO things VALUES ($1, $2), (NULL, NULL)", [-7, "ü, 'quoted'"])
    assert Database.query!("SELECT * FROM things ORDER BY id") == [{-7, "ü, 'quoted'"}, {nil, nil}]
  end

  test "a mistake is raised with its code and its SQL, and the sessions stay usable" do
    for _ <- 1..5 do
      error = assert_raise Database.Error, fn -> Database.query!("nonsense") end
      assert %{code: "42601", lost?: false, message: "syntax error" <> _} = error
      assert error.message =~ ": nonsense"
    end

    assert Database.query!("SELECT 1") == [{1}]
  end

  test "a session that the server has ended meanwhile is replaced, and nobody notices" do
    for _ <- 1..5 do
      Database.query!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = current_user"
      )

      assert Database.query!("SELECT 1") == [{1}]
    end
  end

  test "a statement that the server ended is undone, and said to be" do
    session = Connection.open(Application.fetch_env!(:guestbook, :database_url))
    [{pid}] = Connection.query!(session, "SELECT pg_backend_pid()", [])
    sleeper = Task.async(fn -> sleep(session) end)

    until(fn ->
      Database.query!(
        "SELECT pg_terminate_backend($1) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'",
        [pid]
      ) != []
    end)

    assert %Database.Error{lost?: true, undone?: true} = Task.await(sleeper)
  end

  defp sleep(session) do
    Connection.query!(session, "SELECT pg_sleep(60)", [])
  rescue
    error -> error
  end

  defp until(holds), do: holds.() || until(holds)
end
