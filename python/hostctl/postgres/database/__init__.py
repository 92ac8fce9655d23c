"""The content of a database: row counts, state, dumps, and the exchange of data."""
