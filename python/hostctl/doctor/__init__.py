"""Checks for common problems of a host, each with its fix."""
