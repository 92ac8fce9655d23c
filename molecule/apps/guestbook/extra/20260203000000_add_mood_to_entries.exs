# Additive, and over in no time, unless somebody holds a lock on the table: then it waits, and everybody behind it.
defmodule Guestbook.Repo.Migrations.AddMoodToEntries do
  use Guestbook.Migration

  def change do
    execute "ALTER TABLE entries ADD COLUMN mood text"
  end
end
