"""homeport_abi: see homeport.plays.actions.abi."""

from homeport.plays.actions.abi import ActionModule

__all__ = ["ActionModule"]
