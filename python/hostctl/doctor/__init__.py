"""What commonly goes wrong on a host, looked at in one call."""
