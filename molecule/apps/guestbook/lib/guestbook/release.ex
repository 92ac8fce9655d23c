defmodule Guestbook.Release do
  @moduledoc "What a release can be asked to do without being started: `bin/migrate`."

  def migrate do
    case Guestbook.Migrator.run() do
      [] -> IO.puts("nothing to migrate")
      names -> Enum.each(names, &IO.puts("migrated #{&1}"))
    end
  end
end
