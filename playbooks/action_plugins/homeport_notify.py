"""homeport_notify: see homeport.plays.actions.notify."""

from homeport.plays.actions.notify import ActionModule

__all__ = ["ActionModule"]
