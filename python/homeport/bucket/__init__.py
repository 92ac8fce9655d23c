"""Checks and creates the backup's bucket from the laptop."""
