"""Output for people: progress, tables, confirmation."""
