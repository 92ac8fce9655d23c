"""homeport_credentials: see homeport.plays.credentials."""

from homeport.plays.credentials import ActionModule

__all__ = ["ActionModule"]
