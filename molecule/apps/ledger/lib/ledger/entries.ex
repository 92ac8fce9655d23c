defmodule Ledger.Entries do
  @moduledoc "The rows: every body that was ever posted, with its SHA-256."

  alias Ledger.Database

  @page 10_000

  @doc "Writes one row and returns its number, once it is committed."
  def add(body) do
    sum = Base.encode16(:crypto.hash(:sha256, body), case: :lower)
    parameters = [value(body), sum]
    Database.query!(Database, "INSERT INTO entries (body, checksum) VALUES (?, ?)", parameters)
  end

  # A body that is text is stored as text, so that people and programs can read it.
  defp value(body), do: if(String.valid?(body), do: body, else: {:blob, body})

  @doc "Up to #{@page} rows with a greater number than `number`, in order, as numbers and checksums."
  def rows_after(number) do
    sql = "SELECT id, checksum FROM entries WHERE id > ? ORDER BY id LIMIT #{@page}"
    for {id, sum} <- Database.query!(Database, sql, [number]), do: %{id: id, checksum: sum}
  end

  @doc "The number of the last row, 0 when there is none; quick however many there are."
  def last do
    [{last}] = Database.query!(Database, "SELECT coalesce(max(id), 0) FROM entries")
    last
  end

  @doc "How many rows there are, and the number of the last."
  def count do
    [{count}] = Database.query!(Database, "SELECT count(*) FROM entries")
    %{count: count, last: last()}
  end
end
