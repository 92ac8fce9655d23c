defmodule Hello.Migrations do
  @moduledoc """
  Migrations of a database that is one text file: the names of those applied, one a line.

  The file lies in `STATE_DIRECTORY` (systemd's name for the data directory), else in /var/lib/<app>.
  `HELLO_FAIL_MIGRATION` makes a run fail before it writes; `HELLO_SLOW_MIGRATION_MS` delays it;
  `HELLO_EXTRA_MIGRATION` adds one migration, so that a run has something to do.
  """

  alias Hello.Switches

  @known ["1_create_greetings", "2_add_language_to_greetings"]

  def pending, do: all() -- applied()

  @doc "Applies what is pending, one write each, and returns the names. Raises when told to fail."
  def run do
    Process.sleep(Switches.slow_migration_ms())
    if Switches.fail_migration?(), do: raise("HELLO_FAIL_MIGRATION is set")
    Enum.map(pending(), &apply_one/1)
  end

  def path, do: Path.join(directory(), "migrations")

  defp all, do: @known ++ List.wrap(Switches.extra_migration())

  defp applied do
    case File.read(path()) do
      {:ok, text} -> String.split(text, "\n", trim: true)
      {:error, :enoent} -> []
      {:error, reason} -> raise File.Error, reason: reason, action: "read file", path: path()
    end
  end

  defp apply_one(name) do
    File.mkdir_p!(directory())
    partial = path() <> ".part"
    File.write!(partial, Enum.map(applied() ++ [name], &[&1, "\n"]), [:sync])
    File.rename!(partial, path())
    name
  end

  defp directory do
    System.get_env("STATE_DIRECTORY") ||
      Path.join("/var/lib", System.get_env("HOMEPORT_APP", "hello"))
  end
end
