"""Reads facts from the source of an app: its mix project, its Elixir code, its runtime configuration."""
