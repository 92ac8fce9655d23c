"""Options that verbs share, and shell completion."""
