defmodule Hello.Switches do
  @moduledoc """
  What can be made to go wrong, each by one environment variable (`env.clear` in deploy.yml):

    * `HELLO_CRASH_AT_BOOT=1` the application does not start
    * `HELLO_NEVER_HEALTHY=1` it starts and never listens
    * `HELLO_SLOW_BOOT_MS=N` it listens N milliseconds late
    * `HELLO_EAT_MEMORY_MB=N` it holds N megabytes from the start
    * `HELLO_HEALTH_STATUS=N` /health answers with that status
    * `HELLO_CHECK_HOST=1` any Host but `PHX_HOST` and loopback is answered 400
    * `HELLO_FAIL_MIGRATION=1`, `HELLO_SLOW_MIGRATION_MS=N`, `HELLO_EXTRA_MIGRATION=NAME` see `Hello.Migrations`
  """

  def boot! do
    if on?("HELLO_CRASH_AT_BOOT"), do: raise("HELLO_CRASH_AT_BOOT is set")
    Process.sleep(number("HELLO_SLOW_BOOT_MS", 0))
  end

  def never_healthy?, do: on?("HELLO_NEVER_HEALTHY")
  def check_host?, do: on?("HELLO_CHECK_HOST")
  def fail_migration?, do: on?("HELLO_FAIL_MIGRATION")
  def slow_migration_ms, do: number("HELLO_SLOW_MIGRATION_MS", 0)
  def extra_migration, do: System.get_env("HELLO_EXTRA_MIGRATION")
  def health_status, do: number("HELLO_HEALTH_STATUS", 200)
  def eat_memory_mb, do: number("HELLO_EAT_MEMORY_MB", 0)

  defp on?(name), do: System.get_env(name) in ["1", "true"]

  defp number(name, default) do
    case System.get_env(name) do
      nil -> default
      text -> String.to_integer(text)
    end
  end
end
