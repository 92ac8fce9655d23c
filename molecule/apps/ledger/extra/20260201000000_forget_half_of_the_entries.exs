# Destructive, so it lies beside priv/repo/migrations: whoever wants it copies it there before building.
# The older code goes on working after it; only data is gone.
defmodule Ledger.Repo.Migrations.ForgetHalfOfTheEntries do
  use Ledger.Migration

  def up do
    execute "DELETE FROM entries WHERE id % 2 = 0"
    execute "ALTER TABLE entries DROP COLUMN note"
  end
end
