"""Decides from the document of `hostctl APP status` what a person must look at. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator

from hostctl.common.documents import Certificate, Json, Space, Status
from hostctl.common.timestamps import utc

DAY = 86_400
SCHEDULES = {"daily": DAY, "weekly": 7 * DAY, "monthly": 31 * DAY}
CERTIFICATE = 14 * DAY  # seconds left of a certificate; it is renewed long before
DISK = 0.10  # of the bytes, and of the inodes
ASIDE = 0.20  # of the bytes
LOG = 1 << 30  # bytes; Litestream cuts a log of half of that
FAILURES = 2  # of a job, in a row
WATCHED = 5 * 60.0  # seconds; the watch runs every minute


def trouble(told: Status, now: float) -> list[str]:
    """Every reason why a person should look, in a sentence each; empty when all is well. `now` as in the document."""
    found = [] if told["health"]["ok"] else [f"the app is not healthy: {told['health'].get('text') or 'no answer'}"]
    found += of_disk(told.get("disk"))
    found += of_certificate(told.get("certificate"), now)
    found += [reason for job in told.get("cron") or [] for reason in of_job(job)]
    found += [reason for one in told.get("accessories") or [] for reason in of_accessory(one)]
    return found + of_database(told.get("database"), now)


def of_accessory(one: Json) -> Iterator[str]:
    """A service beside the app. One that is left over need not run."""
    if one["state"] != "active" and not one["left_over"]:
        yield f"the accessory {one['name']} does not run: {one['unit']} is {one['state']}"
    if one["beyond"]:
        yield f"the accessory {one['name']} listens on {' and '.join(one['beyond'])}, where other machines reach it"


def of_disk(disk: Space | None, of: str = "") -> list[str]:
    """The bytes and inodes of a file system."""
    if not disk:
        return []
    shares = ((disk["free"], disk["total"], "bytes"), (disk["inodes_free"], disk["inodes"], "inodes"))
    return [
        f"the disk{of} is nearly full: {100 * free / total:.0f} % of its {what} are free"
        for free, total, what in shares
        if total and free < DISK * total
    ]


def of_certificate(certificate: Certificate | None, now: float) -> list[str]:
    """The certificate that the edge serves. None is asked for where the app has none."""
    ends = certificate["not_after"] if certificate else None
    if certificate is None or ends is None:
        return []
    left = ends - now
    if left >= CERTIFICATE:
        return []
    when = f"expires in {left / DAY:.0f} days" if left > 0 else "has expired"
    return [f"the certificate of {certificate['name']} {when}"]


def of_job(job: Json) -> Iterator[str]:
    """A job of cron: one failure may be anything, two in a row are no accident. One that is suspended rests."""
    if job["suspended"]:
        return
    if not job["fires"]:
        yield f"the timer of the job {job['name']} does not run: deploy cron resume {job['name']} starts it"
    if job["failures"] >= FAILURES:
        yield f"the job {job['name']} failed {job['failures']} times in a row: deploy cron logs {job['name']}"


def of_database(database: Json | None, now: float) -> list[str]:
    """The database's disk and its backup. A backup that is not enabled is nobody's trouble: it was asked for."""
    if database is None:
        return []
    found = of_disk(database.get("disk"), " of the database")
    if database.get("log_bytes", 0) > LOG:
        found.append(f"nobody checkpoints the database: its log has grown to {database['log_bytes'] >> 20} MB")
    found += [*_aside(database), *_of_server(database)]
    backup = database.get("backup")
    return found + (list(of_backup(backup, now)) if backup else [])


def _of_server(database: Json) -> Iterator[str]:
    """PostgreSQL's own; nothing for an engine without a server of the app's."""
    if database.get("server", "active") != "active":
        yield f"PostgreSQL does not run: its unit is {database['server']}"
    for index in database.get("indexes", []):
        yield f"the index {index['name']} is invalid, so no query uses it: {index['repair']}"


def _aside(database: Json) -> list[str]:
    """What lies aside is nobody's but a person's to delete."""
    size, disk = (database.get("aside") or {}).get("bytes", 0), database.get("disk")
    if not disk or size <= ASIDE * disk["total"]:
        return []
    share = f"{size / 1e9:.1f} GB, {100 * size / disk['total']:.0f} % of the disk"
    return [f"what was moved aside takes {share}: see deploy backup list, and deploy backup forget ID"]


def of_backup(backup: Json, now: float) -> Iterator[str]:
    """The stream to S3, and the proof that it can be restored."""
    if backup["superseded"]:
        why = backup["superseded"].get("why") or "another host has taken over"
        yield f"{backup.get('apart') or 'nothing streams from here'}: {why}"
        return
    if backup["stream"] != "active":
        yield f"nothing streams to S3: {backup.get('service', 'Litestream')} is {backup['stream']}"
    yield from _archive(backup)
    yield from _lag(backup, now)
    yield from _drill(backup, now)


def _lag(backup: Json, now: float) -> Iterator[str]:
    if backup["lag"] is not None and backup["lag"] > backup["max_lag"]:
        yield f"the newest write on S3 is {backup['lag']:.0f} s old, and {backup['max_lag']:g} s is the most"
    watch = backup["watch"]
    # a stream that has just been opened was never watched yet
    seen = watch["at"] if watch else backup["opened"]
    if seen is not None and now - seen > WATCHED:
        yield f"the stream to S3 is not watched since {utc(seen)}: see the timer homeport-*-watch"
    elif watch and watch.get("error"):
        yield f"the watch says: {watch['error']}"


def _archive(backup: Json) -> Iterator[str]:
    """PostgreSQL's archive and its base backups."""
    if backup.get("dropping"):
        yield f"PostgreSQL's log is dropped since {utc(backup['dropping']['at'])}: S3 could not take it"
    open_since = [gap["since"] for gap in backup.get("gaps", []) if gap["until"] is None]
    if open_since and not backup.get("dropping"):
        since = utc(min(open_since))
        yield f"nothing after {since} can be restored until the next full backup: log was dropped"
    if backup.get("run") and not backup["run"]["ok"]:
        yield f"the last base backup failed: {'; '.join(backup['run']['found'][:1])}"


def _drill(backup: Json, now: float) -> Iterator[str]:
    last, good = backup["drill"], backup["last_good"]
    if last and not last["ok"]:
        yield f"the last drill failed: {'; '.join(last['found'][:3])}"
    # a backup that is younger than its first drill is not late
    since = good["at"] if good else backup["opened"]
    longest = 2 * SCHEDULES[backup["schedule"]]
    if since is not None and now - since > longest:
        known = f"since {utc(good['at'])}" if good else "yet"
        yield f"no drill has restored the backup {known}, and {longest // DAY} days is the most"
