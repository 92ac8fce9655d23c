defmodule Guestbook.Migration do
  @moduledoc """
  What a migration uses: `execute`, in a `change` or an `up`, as Ecto's migrations have them.

  `@disable_ddl_transaction true` and `@disable_migration_lock true` mean what they mean there.
  """

  defmacro __using__(_) do
    quote do
      import Guestbook.Migration, only: [execute: 1]
      @disable_ddl_transaction false
      @disable_migration_lock false
      @before_compile Guestbook.Migration
    end
  end

  defmacro __before_compile__(_) do
    quote do
      def __migration__, do: %{transaction?: not @disable_ddl_transaction, lock?: not @disable_migration_lock}
    end
  end

  @doc "Runs one statement in the migrator's session."
  def execute(sql), do: Guestbook.Migrator.execute(sql)
end
