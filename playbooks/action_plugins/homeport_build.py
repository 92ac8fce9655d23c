"""homeport_build: see homeport.plays.build."""

from homeport.plays.build import ActionModule

__all__ = ["ActionModule"]
