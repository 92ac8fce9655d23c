"""homeport_inspect: see homeport.plays.inspect."""

from homeport.plays.inspect import ActionModule

__all__ = ["ActionModule"]
