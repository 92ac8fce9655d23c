"""Decides from the document of `hostctl APP status` what needs a person's attention. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator

from hostctl.common.documents import AccessoryStatus, BackupStatus, Certificate, DatabaseStatus, Json, Space, Status
from hostctl.common.timestamps import utc

DAY = 86_400
SCHEDULES = {"daily": DAY, "weekly": 7 * DAY, "monthly": 31 * DAY}
CERTIFICATE = 14 * DAY  # seconds until a certificate expires; it is renewed long before
DISK = 0.10  # the least free share of the bytes, and of the inodes
ASIDE = 0.20  # the largest share of the bytes for kept data
LOG = 1 << 30  # bytes; Litestream truncates a log of half of that
FAILURES = 2  # of a job, in a row
WATCHED = 5 * 60.0  # seconds; the monitor runs every minute


def trouble(status: Status, now: float) -> list[str]:
    """The trouble of the app, one sentence each; empty without any. `now` in seconds since the epoch."""
    health = status["health"]
    texts = [] if health["ok"] else [f"the app is not healthy: {health.get('text') or 'no answer'}"]
    texts += of_disk(status.get("disk"))
    texts += of_certificate(status.get("certificate"), now)
    texts += [text for job in status.get("cron") or [] for text in of_job(job)]
    texts += [text for accessory in status.get("accessories") or [] for text in of_accessory(accessory)]
    return texts + of_database(status.get("database"), now)


def of_accessory(accessory: AccessoryStatus) -> Iterator[str]:
    """The trouble of an accessory. One that is no longer in deploy.yml need not run."""
    if accessory["state"] != "active" and not accessory["left_over"]:
        yield f"the accessory {accessory['name']} does not run: {accessory['unit']} is {accessory['state']}"
    if accessory["beyond"]:
        sockets = " and ".join(accessory["beyond"])
        yield f"the accessory {accessory['name']} listens on {sockets}, where other machines reach it"


def of_disk(disk: Space | None, of: str = "") -> list[str]:
    """The trouble of a file system: too few free bytes or inodes."""
    if not disk:
        return []
    shares = ((disk["free"], disk["total"], "bytes"), (disk["inodes_free"], disk["inodes"], "inodes"))
    return [
        f"the disk{of} is nearly full: {100 * free / total:.0f} % of its {what} are free"
        for free, total, what in shares
        if total and free < DISK * total
    ]


def of_certificate(certificate: Certificate | None, now: float) -> list[str]:
    """The trouble of the certificate that the edge serves; none without a certificate."""
    ends = certificate["not_after"] if certificate else None
    if certificate is None or ends is None:
        return []
    left = ends - now
    if left >= CERTIFICATE:
        return []
    when = f"expires in {left / DAY:.0f} days" if left > 0 else "has expired"
    return [f"the certificate of {certificate['name']} {when}"]


def of_job(job: Json) -> Iterator[str]:
    """The trouble of a scheduled job: it does not run, or failed FAILURES times in a row. A suspended job has none."""
    if job["suspended"]:
        return
    if not job["fires"]:
        yield f"the timer of the job {job['name']} does not run: deploy cron resume {job['name']} starts it"
    if job["failures"] >= FAILURES:
        yield f"the job {job['name']} failed {job['failures']} times in a row: deploy cron logs {job['name']}"


def of_database(database: DatabaseStatus | None, now: float) -> list[str]:
    """The trouble of the database, its disk and its backup. A disabled backup is none: the configuration says so."""
    if database is None:
        return []
    texts = of_disk(database.get("disk"), " of the database")
    if database.get("log_bytes", 0) > LOG:
        texts.append(f"no process checkpoints the database: its log has grown to {database['log_bytes'] >> 20} MB")
    texts += [*_kept_data(database), *_of_server(database)]
    backup = database.get("backup")
    return texts + (list(of_backup(backup, now)) if backup else [])


def _of_server(database: DatabaseStatus) -> Iterator[str]:
    """The trouble of the app's PostgreSQL server; none for another engine."""
    if database.get("server", "active") != "active":
        yield f"PostgreSQL does not run: its unit is {database['server']}"
    for index in database.get("indexes", []):
        yield f"the index {index['name']} is invalid, so no query uses it: {index['repair']}"


def _kept_data(database: DatabaseStatus) -> list[str]:
    """The trouble of kept data that takes much of the disk: only a person deletes it."""
    aside, disk = database.get("aside"), database.get("disk")
    size = aside["bytes"] if aside else 0
    if not disk or size <= ASIDE * disk["total"]:
        return []
    share = f"{size / 1e9:.1f} GB, {100 * size / disk['total']:.0f} % of the disk"
    return [f"kept data takes {share}: see deploy backup list, and deploy backup forget ID"]


def of_backup(backup: BackupStatus, now: float) -> Iterator[str]:
    """The trouble of the stream to S3 and of the drill."""
    if backup["superseded"]:
        why = backup["superseded"].get("why") or "another host has taken over"
        yield f"{backup.get('apart') or 'nothing streams from here'}: {why}"
        return
    if backup["stream"] != "active":
        yield f"nothing streams to S3: {backup.get('service', 'Litestream')} is {backup['stream']}"
    yield from _archive(backup)
    yield from _lag(backup, now)
    yield from _drill(backup, now)


def _lag(backup: BackupStatus, now: float) -> Iterator[str]:
    if backup["lag"] is not None and backup["lag"] > backup["max_lag"]:
        yield f"the newest write on S3 is {backup['lag']:.0f} s old, and {backup['max_lag']:g} s is the most"
    watch = backup["watch"]
    # no monitor has run yet on a stream that has just begun
    checked = watch["at"] if watch else backup["opened"]
    if checked is not None and now - checked > WATCHED:
        yield f"the monitor has not checked the stream to S3 since {utc(checked)}: see the timer homeport-*-watch"
    elif watch and watch.get("error"):
        yield f"the monitor reports: {watch['error']}"


def _archive(backup: BackupStatus) -> Iterator[str]:
    """The trouble of PostgreSQL's archive and its base backups."""
    dropping, run = backup.get("dropping"), backup.get("run")
    if dropping:
        yield f"PostgreSQL's log is dropped since {utc(dropping['at'])}: S3 could not take it"
    open_since = [gap["since"] for gap in backup.get("gaps", []) if gap["until"] is None]
    if open_since and not dropping:
        since = utc(min(open_since))
        yield f"nothing after {since} can be restored until the next full backup: log was dropped"
    if run and not run["ok"]:
        yield f"the last base backup failed: {'; '.join(run['found'][:1])}"


def _drill(backup: BackupStatus, now: float) -> Iterator[str]:
    last, good = backup["drill"], backup["last_good"]
    if last and not last["ok"]:
        yield f"the last drill failed: {'; '.join(last['found'][:3])}"
    # a backup that is younger than its first drill is not late
    since = good["at"] if good else backup["opened"]
    longest = 2 * SCHEDULES[backup["schedule"]]
    if since is not None and now - since > longest:
        known = f"since {utc(good['at'])}" if good else "yet"
        yield f"no drill has restored the backup {known}, and {longest // DAY} days is the most"
