"""hostctl: the transitions of a release on the host. Standard library only."""

__version__ = "0.1.0"
