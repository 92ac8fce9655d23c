"""Runs the playbooks, and has the work of their action plugins."""
