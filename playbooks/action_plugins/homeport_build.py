"""homeport_build: see homeport.plays.actions.build."""

from homeport.plays.actions.build import ActionModule

__all__ = ["ActionModule"]
