defmodule Guestbook.Database do
  @moduledoc "What the app asks of PostgreSQL: one statement at a time, each a transaction of its own."

  defmodule Error do
    @moduledoc """
    `code` is PostgreSQL's, where it said one. `lost?`: the session has ended. `undone?`: it is certain that
    the statement did nothing.
    """
    defexception [:message, :code, lost?: false, undone?: true]
  end

  @doc "The rows as tuples; parameters are `$1`, `$2`, … in the statement. Raises Guestbook.Database.Error."
  def query!(sql, parameters \\ []), do: Guestbook.Pool.query!(sql, parameters)
end
