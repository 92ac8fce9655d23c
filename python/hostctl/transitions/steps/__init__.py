"""The steps of each transition, and their undo."""
