"""The server of an app: its cluster, and servers on other data directories."""
