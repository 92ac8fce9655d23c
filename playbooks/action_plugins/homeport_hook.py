"""homeport_hook: see homeport.plays.hook."""

from homeport.plays.hook import ActionModule

__all__ = ["ActionModule"]
