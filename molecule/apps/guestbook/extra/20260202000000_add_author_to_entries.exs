# Additive: a push that migrates, and that can be rolled back without a thought.
defmodule Guestbook.Repo.Migrations.AddAuthorToEntries do
  use Guestbook.Migration

  def change do
    execute "ALTER TABLE entries ADD COLUMN author text DEFAULT 'nobody'"
  end
end
