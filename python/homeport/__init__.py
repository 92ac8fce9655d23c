"""Homeport: put a Phoenix monolith on one Linux host and keep it safe there."""

__version__ = "0.1.0"
