# What Homeport's guard uses of Ecto, with Ecto's names, arguments and answers: hex cannot be reached from the tests.
defmodule Ecto.Migrator do
  @moduledoc false

  def with_repo(repo, fun, _options \\ []) do
    {:ok, pid} = repo.start_link()
    result = fun.(repo)
    :sqlite3.close(pid)
    {:ok, result, []}
  end
end

defmodule Ecto.Repo do
  @moduledoc false

  defmacro __using__(options) do
    quote do
      def __adapter__, do: unquote(options[:adapter])
      def config, do: Application.fetch_env!(unquote(options[:otp_app]), __MODULE__)
      def start_link, do: Ecto.Adapters.SQLite3.start_link(__MODULE__, config())
      def query!(sql, params \\ [], options \\ [])
      def query!(sql, params, _), do: Ecto.Adapters.SQLite3.query!(__MODULE__, sql, params)
    end
  end
end

defmodule Ecto.Adapters.SQLite3 do
  @moduledoc false

  # exqlite's own
  @defaults [wal_auto_check_point: 1000, busy_timeout: 2000, journal_mode: :wal]

  def start_link(repo, config) do
    config = Keyword.merge(@defaults, config)
    {:ok, pid} = :sqlite3.open(repo, file: to_charlist(config[:database]))
    query!(repo, "PRAGMA busy_timeout = #{config[:busy_timeout]}", [])
    query!(repo, "PRAGMA journal_mode = #{config[:journal_mode]}", [])
    query!(repo, "PRAGMA wal_autocheckpoint = #{config[:wal_auto_check_point]}", [])
    {:ok, pid}
  end

  def query!(repo, sql, params) do
    case :sqlite3.sql_exec(repo, sql, params) do
      [columns: _, rows: rows] -> %{rows: Enum.map(rows, &Tuple.to_list/1)}
      :ok -> %{rows: nil}
      error -> raise "#{inspect(error)} in #{sql}"
    end
  end
end

defmodule Ecto.Adapters.Postgres do
  @moduledoc false
end
