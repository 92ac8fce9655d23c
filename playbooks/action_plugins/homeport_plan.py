"""homeport_plan: see homeport.plays.actions.plan."""

from homeport.plays.actions.plan import ActionModule

__all__ = ["ActionModule"]
