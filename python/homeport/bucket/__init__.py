"""The backup bucket, seen from the laptop."""
