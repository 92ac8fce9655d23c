"""homeport_credentials: see homeport.plays.actions.credentials."""

from homeport.plays.actions.credentials import ActionModule

__all__ = ["ActionModule"]
