"""homeport_plan: see homeport.plays.plan."""

from homeport.plays.plan import ActionModule

__all__ = ["ActionModule"]
