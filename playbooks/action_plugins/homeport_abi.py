"""homeport_abi: see homeport.plays.abi."""

from homeport.plays.abi import ActionModule

__all__ = ["ActionModule"]
