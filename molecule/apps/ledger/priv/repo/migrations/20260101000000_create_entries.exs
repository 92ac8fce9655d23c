defmodule Ledger.Repo.Migrations.CreateEntries do
  use Ledger.Migration

  def change do
    execute """
    CREATE TABLE entries (
      id INTEGER PRIMARY KEY AUTOINCREMENT,
      body TEXT NOT NULL,
      checksum TEXT NOT NULL
    )
    """
  end
end
