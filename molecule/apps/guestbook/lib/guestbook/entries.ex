defmodule Guestbook.Entries do
  @moduledoc "The rows: every body that was ever posted, with its SHA-256."

  alias Guestbook.Database

  @page 10_000

  @doc "Writes one row and returns its number, once it is committed."
  def add(body) do
    sum = Base.encode16(:crypto.hash(:sha256, body), case: :lower)
    sql = "INSERT INTO entries (body, checksum) VALUES ($1, $2) RETURNING id"
    [{id}] = Database.query!(sql, [text(body), sum])
    id
  end

  # What PostgreSQL's text cannot hold is kept as PostgreSQL shows bytes.
  defp text(body) do
    if String.valid?(body) and not String.contains?(body, <<0>>),
      do: body,
      else: "\\x" <> Base.encode16(body, case: :lower)
  end

  @doc "Up to #{@page} rows with a greater number than `number`, in order, as numbers and checksums."
  def rows_after(number) do
    sql = "SELECT id, checksum FROM entries WHERE id > $1 ORDER BY id LIMIT #{@page}"
    for {id, sum} <- Database.query!(sql, [number]), do: %{id: id, checksum: sum}
  end

  @doc "The number of the last row, 0 when there is none; quick however many there are."
  def last do
    [{last}] = Database.query!("SELECT coalesce(max(id), 0) FROM entries")
    last
  end

  @doc "How many rows there are, and the number of the last."
  def count do
    [{count}] = Database.query!("SELECT count(*) FROM entries")
    %{count: count, last: last()}
  end
end
