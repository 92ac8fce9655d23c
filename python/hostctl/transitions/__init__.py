"""Transitions: push, rollback, restore, upgrade, and their recovery."""
