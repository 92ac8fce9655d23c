"""homeport_upload: see homeport.plays.actions.upload."""

from homeport.plays.actions.upload import ActionModule

__all__ = ["ActionModule"]
