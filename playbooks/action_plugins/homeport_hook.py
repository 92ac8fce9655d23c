"""homeport_hook: see homeport.plays.actions.hook."""

from homeport.plays.actions.hook import ActionModule

__all__ = ["ActionModule"]
