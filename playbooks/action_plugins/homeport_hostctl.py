"""homeport_hostctl: see homeport.plays.actions.hostctl."""

from homeport.plays.actions.hostctl import ActionModule

__all__ = ["ActionModule"]
