"""homeport_upload: see homeport.plays.upload."""

from homeport.plays.upload import ActionModule

__all__ = ["ActionModule"]
