"""homeport_inspect: see homeport.plays.actions.inspect."""

from homeport.plays.actions.inspect import ActionModule

__all__ = ["ActionModule"]
