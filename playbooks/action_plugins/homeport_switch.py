"""homeport_switch: see homeport.plays.switch."""

from homeport.plays.switch import ActionModule

__all__ = ["ActionModule"]
