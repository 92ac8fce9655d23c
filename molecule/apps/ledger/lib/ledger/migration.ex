defmodule Ledger.Migration do
  @moduledoc "What a migration uses: `execute`, in a `change` or an `up`, as Ecto's migrations have them."

  defmacro __using__(_) do
    quote do
      import Ledger.Migration, only: [execute: 1]
    end
  end

  @doc "Runs one statement in the migration's transaction."
  def execute(sql), do: Ledger.Database.query!(Ledger.Migrator, sql)
end
