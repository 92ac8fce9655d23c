"""homeport_verify: see homeport.plays.actions.verify."""

from homeport.plays.actions.verify import ActionModule

__all__ = ["ActionModule"]
