# Fails where a body was posted twice, and then leaves an invalid index behind: no transaction takes it back.
defmodule Guestbook.Repo.Migrations.MakeChecksumsUnique do
  use Guestbook.Migration

  @disable_ddl_transaction true
  @disable_migration_lock true

  def change do
    execute "CREATE UNIQUE INDEX CONCURRENTLY entries_checksum_key ON entries (checksum)"
  end
end
