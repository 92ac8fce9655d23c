"""homeport_switch: see homeport.plays.actions.switch."""

from homeport.plays.actions.switch import ActionModule

__all__ = ["ActionModule"]
