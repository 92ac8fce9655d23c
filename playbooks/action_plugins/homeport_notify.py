"""homeport_notify: see homeport.plays.notify."""

from homeport.plays.notify import ActionModule

__all__ = ["ActionModule"]
