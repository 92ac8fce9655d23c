"""The part of `deploy status` about a backup that is the same for every engine."""

from __future__ import annotations

from hostctl.backup import drill, epochs, settings, state
from hostctl.common.files import Json, read_json
from hostctl.core.paths import App
from hostctl.host.host import Host


def common_summary(app: App, host: Host, unit: str) -> Json | None:
    """The keys that every engine reports; None without a backup. `unit` is the unit that sends the last writes."""
    backup = settings.configured(app)
    if backup is None:
        return None
    epoch, last = epochs.local(app), drill.last_result(app)
    return {
        "bucket": backup.bucket,
        "prefix": backup.prefix,
        "stream": host.systemd.show(unit)[0].state,
        "epoch": epoch.epoch if epoch else None,
        "opened": epoch.opened if epoch else None,
        "max_lag": backup.max_lag,
        "watch": read_json(app.backup / "watch.json"),
        "superseded": epochs.superseded(app),
        "owed": state.full_required(app),
        "schedule": backup.drill,
        "drill": last,
        "last_good": last["last_good"] if last else None,
        "left_open": None,
    }
