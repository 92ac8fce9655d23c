"""Finds deploy.yml, merges its destination, validates the result, and converts it to host variables."""
