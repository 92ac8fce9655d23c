"""What every check gets: the app, the host, and the facts that several checks use, each read once."""

from __future__ import annotations

from functools import cached_property

from hostctl.common.documents import Status
from hostctl.common.files import Json, read_json
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.release import app_config, records
from hostctl.verbs.status import status


class Context:
    """One app on this host."""

    def __init__(self, app: App, host: Host) -> None:
        self.app, self.host = app, host

    @cached_property
    def status(self) -> Status:
        """The document of `hostctl APP status`."""
        return status(self.app, self.host)

    @cached_property
    def settings(self) -> Json:
        """The content of app.json."""
        return app_config.load(self.app)

    @property
    def live(self) -> str | None:
        """The release that is live."""
        return self.app.live()

    @property
    def record(self) -> Json:
        """The live release's record; empty without one."""
        return (read_json(self.app.record(self.live) / "record.json") if self.live else None) or {}

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the live instance, secrets included."""
        return records.environment(self.app, self.live) if self.live else {}
