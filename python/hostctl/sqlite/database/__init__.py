"""SQLite files: read, copied, swapped, and a console on them."""
