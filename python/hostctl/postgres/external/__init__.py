"""A database on a server of a provider, which also makes its backups."""
