"""homeport_certificates: see homeport.plays.certificates."""

from homeport.plays.certificates import ActionModule

__all__ = ["ActionModule"]
