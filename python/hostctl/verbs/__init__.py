"""Verbs that read or change one thing and need no transition."""
