# Additive: a push that migrates, and that can be rolled back without a thought.
defmodule Ledger.Repo.Migrations.AddAuthorToEntries do
  use Ledger.Migration

  def change do
    execute "ALTER TABLE entries ADD COLUMN author TEXT DEFAULT 'nobody'"
  end
end
