"""The SQLite engine: the database file, Litestream, restore and drill."""
