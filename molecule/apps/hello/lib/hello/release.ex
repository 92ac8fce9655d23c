defmodule Hello.Release do
  @moduledoc "What a release can be asked to do without being started: `bin/migrate`, `bin/pending`."

  alias Hello.Migrations

  def migrate do
    case Migrations.run() do
      [] -> IO.puts("nothing to migrate")
      names -> Enum.each(names, &IO.puts("migrated #{&1}"))
    end
  end

  @doc "Prints the pending migrations, one a line; nothing when there are none."
  def pending, do: Enum.each(Migrations.pending(), &IO.puts/1)
end
