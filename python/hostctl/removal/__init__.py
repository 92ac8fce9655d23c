"""Removal of an app from the host."""
