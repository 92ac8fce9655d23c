"""The paths and unit names of apps on the host. Tests use another root directory than /."""

from __future__ import annotations

from pathlib import Path

from hostctl.common.errors import USAGE, HostError
from hostctl.common.names import checked, matches

PROGRAM = "/usr/local/sbin/hostctl"


class App:
    """The paths and unit names of one app."""

    def __init__(self, layout: Layout, name: str) -> None:
        self.layout, self.name = layout, checked("app", name)
        self.config = layout.root / "etc/homeport" / name / "app.json"
        self.srv = layout.root / "srv" / name
        self.trees = self.srv / "releases"
        self.assets = self.srv / "assets"
        self.state = layout.state / name
        self.records = self.state / "releases"
        self.artifacts = self.state / "artifacts"
        self.transitions = self.state / "transitions"
        self.live_link = self.state / "live"
        self.lock = self.state / "lock"
        self.lock_json = self.state / "lock.json"
        self.start_lock = self.state / "start.lock"
        self.audit = self.state / "audit.jsonl"
        self.cookie = self.state / "cookie"
        self.database = self.config.with_name("database.json")
        self.backup_credentials = self.config.with_name("backup.env")
        self.data = layout.root / "var/lib" / name
        self.backup = self.state / "backup"
        self.points = self.state / "points"
        self.aside = self.state / "aside"
        self.notify = self.state / "notify"
        self.notify_config = self.config.with_name("notify.json")
        self.notify_urls = self.config.with_name("notify")
        self.stream_runtime = layout.root / f"run/homeport-{name}-litestream"
        self.cluster = layout.root / "var/lib/postgresql/homeport" / name
        self.cluster_data = self.cluster / "data"
        self.cluster_bin = self.cluster / "bin"
        self.cluster_socket = layout.root / f"run/homeport-{name}-postgres"
        self.pgbackrest = self.config.with_name("pgbackrest.conf")
        self.build = layout.root / "var/cache/homeport" / name / "build"

    def tree(self, release: str) -> Path:
        return self.trees / release

    def record(self, release: str) -> Path:
        return self.records / release

    def artifact(self, digest: str) -> Path:
        return self.artifacts / f"{digest}.tar"

    def unit(self, release: str) -> str:
        return f"{self.name}@{release}.service"

    def helper_unit(self, what: str) -> str:
        """The transient unit of a transition, drain, migration or build."""
        return f"homeport-{self.name}-{what}.service"

    @property
    def stream_unit(self) -> str:
        """The unit that streams the app's databases to S3."""
        return self.helper_unit("litestream")

    @property
    def cluster_unit(self) -> str:
        """The unit of the app's PostgreSQL server."""
        return self.helper_unit("postgres")

    @property
    def tail_unit(self) -> str:
        """The unit that streams the end of PostgreSQL's log to S3."""
        return self.helper_unit("tail")

    def live(self) -> str | None:
        """The live release, None for none: the target of the symlink, which alone decides it."""
        try:
            name = self.live_link.readlink().name
        except OSError:
            return None
        return name if matches("release", name) else None

    def require(self) -> None:
        """Raises HostError (usage) if the app is not provisioned on this host."""
        if not self.config.is_file():
            raise HostError(f"there is no app {self.name} on this host", str(self.config), "deploy provision", USAGE)


class Layout:
    """The host's file system, from its root."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root
        self.state = root / "var/lib/homeport"
        self.ports_lock = self.state / ".ports"

    def app(self, name: str) -> App:
        return App(self, name)

    def apps(self) -> list[App]:
        """Every provisioned app."""
        found = sorted(path.parent.name for path in (self.root / "etc/homeport").glob("*/app.json"))
        return [App(self, name) for name in found if matches("app", name)]
