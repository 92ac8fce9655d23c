"""What the source of an app says: mix project, Elixir code, runtime configuration."""
