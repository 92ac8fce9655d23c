"""Releases: the artifact, and what its Elixir code and its migrations say."""
