defmodule Guestbook.Repo.Migrations.CreateEntries do
  use Guestbook.Migration

  def change do
    execute """
    CREATE TABLE entries (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      body text NOT NULL,
      checksum text NOT NULL
    )
    """
  end
end
