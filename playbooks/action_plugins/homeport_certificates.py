"""homeport_certificates: see homeport.plays.actions.certificates."""

from homeport.plays.actions.certificates import ActionModule

__all__ = ["ActionModule"]
