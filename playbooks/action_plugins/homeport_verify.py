"""homeport_verify: see homeport.plays.verify."""

from homeport.plays.verify import ActionModule

__all__ = ["ActionModule"]
