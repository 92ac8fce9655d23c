"""A release on the host: artifact, records, environment, migrations, selection."""
