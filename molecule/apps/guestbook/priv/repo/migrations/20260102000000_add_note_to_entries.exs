defmodule Guestbook.Repo.Migrations.AddNoteToEntries do
  use Guestbook.Migration

  def up do
    execute "ALTER TABLE entries ADD COLUMN note text"
    execute "CREATE INDEX entries_checksum_index ON entries (checksum)"
  end

  def down do
    execute "DROP INDEX entries_checksum_index"
    execute "ALTER TABLE entries DROP COLUMN note"
  end
end
