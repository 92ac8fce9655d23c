"""The documents that host and laptop exchange, and that the host keeps as JSON, as types.

Times are seconds since the epoch, durations seconds, sizes bytes. A key that an older version did not write is
`NotRequired`. Readers take the documents as they are: schema.py checks what comes from outside.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

# a document whose keys only its reader knows
Json = dict[str, Any]


class ErrorDocument(TypedDict):
    """A refusal: what is wrong, where, the fix, and the exit code."""

    what: str
    where: str
    fix: str
    code: int


# ---------------------------------------------------------------------------------------------- what a push sends


class Git(TypedDict):
    """The commit that a release was built from."""

    sha: str | None
    ref: str | None
    dirty: bool
    subject: str | None


class HealthCheck(TypedDict):
    """How an instance is asked whether it is healthy."""

    path: str
    interval: float
    timeout: float
    deploy_timeout: float


class Commands(TypedDict):
    """Programs of the release; None for one that it has not."""

    migrate: str | None


class SqliteSettings(TypedDict):
    """The database of an app on SQLite."""

    engine: Literal["sqlite"]
    path: str
    settings: str | None
    unsafe_checkpoints: Literal["refuse", "allow"]


class PostgresSettings(TypedDict):
    """The database of an app on a cluster of its own; `lock_timeout` in seconds."""

    engine: Literal["postgres"]
    pool: int
    lock_timeout: float


class ExternalSettings(TypedDict):
    """The database of an app on a server elsewhere; `url` is the name of a secret."""

    engine: Literal["external"]
    pool: int
    url: str


DatabaseSettings = SqliteSettings | PostgresSettings | ExternalSettings


class Job(TypedDict):
    """A scheduled job: a command (`words`) or an Elixir expression, at systemd calendar events."""

    name: str
    schedule: str
    calendar: list[str]
    words: list[str]
    expression: str
    timeout: float


class Settings(TypedDict):
    """The settings that a release goes live with: they travel with a push, and its record keeps them."""

    release_name: str
    health: HealthCheck
    drain_timeout: float
    retain_releases: int
    strategy: Literal["overlap", "restart"]
    commands: Commands
    migrate_timeout: float
    domains: list[str]
    database: NotRequired[DatabaseSettings | None]
    cron: NotRequired[list[Job] | None]


# the keys `who` and `from` are no names in Python
PushSpec = TypedDict(
    "PushSpec",
    {
        "release": str,
        "digest": str,
        "git": NotRequired[Git | None],
        "who": NotRequired[str | None],
        "from": NotRequired[str | None],
        "settings": Settings,
        "env": NotRequired[dict[str, str] | None],
        # None keeps the value that the host has
        "secrets": dict[str, str | None],
        "lock_wait": NotRequired[float | None],
    },
)


class Plan(TypedDict):
    """What a push would do."""

    unchanged: bool
    changed_keys: list[str]
    previous: str | None
    release: str
    restart: bool
    held: bool
    migrations: list[str]
    brings: list[str]


# ---------------------------------------------------------------------------------------------- releases


class Change(TypedDict):
    """One state of a release, since when, and why if it failed."""

    state: str
    at: float
    why: NotRequired[str]


class Migration(TypedDict):
    """One migration of a release; `why` holds the reasons for which it is not additive."""

    version: int
    name: str
    additive: bool
    why: list[str]


class NamedChanges(TypedDict):
    """The names that differ between two environments."""

    added: list[str]
    changed: list[str]
    removed: list[str]


Record = TypedDict(
    "Record",
    {
        "release": str,
        "digest": str,
        "git": Git | None,
        "who": str | None,
        "from": str | None,
        "created": float,
        "state": str,
        "history": list[Change],
        "size": int,
        # the names of the secrets in the environment
        "secrets": list[str],
        "settings": Settings,
        # keyed digests: whether an environment differs, and in which variables, without their values
        "env_digest": str,
        "env_digests": NotRequired[dict[str, str]],
        "env_changes": NotRequired[NamedChanges | None],
        "migrations": NotRequired[list[Migration]],
    },
)


class ReleaseSummary(TypedDict):
    """A release as a list shows it."""

    release: str
    digest: str | None
    git: Git | None
    created: float | None
    who: str | None
    size: int | None
    env_changes: NamedChanges | None
    state: str
    live: bool
    present: bool


# ---------------------------------------------------------------------------------------------- transitions


class StepTime(TypedDict):
    """A step that was done, and how many milliseconds it took."""

    name: str
    ms: int


class JournalStep(TypedDict):
    """A step that was begun; `ms` is None until it is done."""

    name: str
    at: float
    ms: int | None


class Event(TypedDict):
    """One line of a transition's progress."""

    n: int
    at: float
    step: str
    state: str
    ms: int | None
    text: str


class KeptData(TypedDict):
    """The data that a transition replaced: the directory that keeps it, and the writes that it has beyond the new."""

    aside: str
    since: float
    seconds: float
    tables: Json


# how a transition or a build ended
Outcome = Literal["live", "failed", "built"]


class Result(TypedDict):
    """How a transition ended."""

    result: Outcome
    # None for a build
    release: str | None
    artifact: NotRequired[str | None]
    previous: str | None
    code: int
    error: ErrorDocument | None
    steps: list[StepTime]
    kept: NotRequired[KeptData | None]
    env_changes: NotRequired[NamedChanges | None]


# the key `from` is no name in Python
DataSource = TypedDict(
    "DataSource",
    {
        # a restore point; None where an instant counts
        "point": str | None,
        # None: the newest that is on S3
        "at": float | None,
        # the newest instant, and the window that can be restored
        "newest": NotRequired[float],
        "from": NotRequired[float],
        "to": NotRequired[float],
        # a file on this host that takes the place of the database
        "file": NotRequired[str],
        # major versions of PostgreSQL: {"from", "to"}
        "upgrade": NotRequired[dict[str, int]],
    },
)


class Followed(TypedDict):
    """The events of a transition since the last look."""

    transition: str
    verb: str
    release: str
    events: list[Event]
    next: int
    done: bool
    result: Result | None


# ---------------------------------------------------------------------------------------------- data


class FileCopy(TypedDict):
    """The size of a copy in bytes, its SHA-256, and the rows of each table, which those of an older Homeport lack."""

    bytes: int
    sha256: str
    tables: NotRequired[dict[str, int]]


Point = TypedDict(
    "Point",
    {
        "id": str,
        "at": float,
        # what was live when the point was taken, and the release whose migrations it precedes
        "release": str,
        "for": str,
        # copies, by name; empty where `position` names the place in the backup
        "files": dict[str, FileCopy],
        "position": Json | None,
        # the migrations that the database names as applied, and the rows of each table by database
        "versions": NotRequired[list[int]],
        "tables": NotRequired[Json],
    },
)


# ---------------------------------------------------------------------------------------------- backup


class DrillSummary(TypedDict):
    """The result of a drill in short. `up_to`: the newest row of the copy; `found`: the faults."""

    at: float
    ok: bool
    epoch: str | None
    seconds: float
    bytes: int
    found: list[str]
    up_to: float | None


class DrillResult(DrillSummary):
    """The result of a drill, as drill.json keeps it."""

    took: float
    rows: int
    damaged: bool
    # by database: the newest time of which a sound copy can be restored; None without one
    restorable: dict[str, float | None]
    # the last drill without a fault
    last_good: NotRequired[DrillSummary | None]
    # what can still be restored, in words; empty after a drill that passed
    offer: NotRequired[str]


class BackupRun(TypedDict):
    """The result of `hostctl APP backup run`, as run.json keeps it; `found`: the error."""

    at: float
    ok: bool
    seconds: float
    found: list[str]


class MonitorResult(TypedDict):
    """The last result of the monitor, as watch.json keeps it."""

    at: float
    lag: float | None
    # the number of the newest canary row
    canary: int | None
    error: str | None
    # all writes until then are on S3; the oldest write that may be missing there
    arrived: NotRequired[float | None]
    since: NotRequired[float | None]


class FullRequired(TypedDict):
    """Why a full snapshot is required, and since when."""

    why: str
    since: float


class Superseded(TypedDict):
    """The epoch of another host that is current; `to` is the bucket."""

    at: float
    epoch: str
    host: str
    why: str
    to: NotRequired[Json]


class Gap(TypedDict):
    """A time that cannot be restored, because PostgreSQL's log was dropped; `until` is None while that goes on."""

    since: float
    until: float | None


class ArchiverStatus(TypedDict):
    """PostgreSQL's archiver: the last archived segment, whether it fails, and how many files wait."""

    archived: str | None
    archived_at: float | None
    fails: bool
    failures: int
    waiting: int


class BaseBackup(TypedDict):
    """A base backup of PostgreSQL; `at` is its end."""

    label: str
    kind: str
    at: float
    bytes: int


class DroppedWal(TypedDict):
    """WAL of PostgreSQL is dropped since `at`; `since` is the last archived instant."""

    at: float
    since: float


class BackupStatus(TypedDict):
    """The backup in the status; the keys after `left_open` are PostgreSQL's."""

    bucket: str
    prefix: str
    # the state of the unit that streams
    stream: str
    epoch: str | None
    opened: float | None
    lag: float | None
    max_lag: float
    watch: MonitorResult | None
    superseded: Superseded | None
    owed: FullRequired | None
    schedule: Literal["daily", "weekly", "monthly"]
    drill: DrillResult | None
    last_good: DrillSummary | None
    # the risk that the configuration leaves, in words
    left_open: str | None
    next_drill: NotRequired[float | None]
    service: NotRequired[str]
    apart: NotRequired[str]
    archiver: NotRequired[ArchiverStatus | None]
    dropping: NotRequired[DroppedWal | None]
    timeline: NotRequired[int | None]
    gaps: NotRequired[list[Gap]]
    encrypted: NotRequired[bool]
    full: NotRequired[BaseBackup | None]
    newest: NotRequired[BaseBackup | None]
    run: NotRequired[BackupRun | None]


# the key `from` is no name in Python
TimeRange = TypedDict("TimeRange", {"from": float, "to": float})


class KeptEntry(TypedDict):
    """Kept data: bytes on the disk, the place, and why it was kept ("" when unknown)."""

    id: str
    since: float
    bytes: int
    path: str
    why: str


class KeptSpace(TypedDict):
    """How much data is kept, in bytes on the disk."""

    count: int
    bytes: int


class InvalidIndex(TypedDict):
    """An index that a failed concurrent build left invalid, and the statement that repairs it."""

    name: str
    repair: str
    table: NotRequired[str]
    leftover: NotRequired[bool]


class DatabaseStatus(TypedDict):
    """The database in the status: its engine, files and backup. An engine leaves out what it has not."""

    engine: str
    bytes: int | None
    disk: NotRequired[Space | None]
    log_bytes: NotRequired[int]
    backup: BackupStatus | None
    aside: NotRequired[KeptSpace]
    path: NotRequired[str]
    unsafe: NotRequired[bool]
    server: NotRequired[str]
    indexes: NotRequired[list[InvalidIndex]]


# ---------------------------------------------------------------------------------------------- status


class AccessoryStatus(TypedDict):
    """An accessory and its unit; `beyond`: the sockets that other machines can reach."""

    name: str
    kind: str
    unit: str
    state: str
    left_over: bool
    listens: list[str]
    beyond: list[str]
    variables: list[str]
    memory: int | None
    restarts: int
    bytes: int


class MaintenancePage(TypedDict):
    """The maintenance page to show: its HTML, the message in it, the addresses that still see the app, seconds."""

    page: str
    message: str
    allow: list[str]
    retry_after: int


# the key `from` is no name in Python
MaintenanceState = TypedDict(
    "MaintenanceState",
    {"since": float, "who": str, "from": str, "message": str, "allow": list[str], "retry_after": int},
)


class LiveRelease(TypedDict):
    """The live release and its unit."""

    release: str
    git: Git | None
    since: float | None
    instance: str
    port: int | None
    state: str
    restarts: int
    digest: str | None
    who: str | None
    # "foreign": a process that is not of the instance listens on its port
    listener: NotRequired[str]


class Health(TypedDict):
    """The answer of the live instance to its health check; `status` is 0 without one."""

    ok: bool
    status: int
    text: str


class TransitionSummary(TypedDict):
    """The running or last transition."""

    id: str
    verb: str
    release: str
    done: bool
    phase: str
    result: str | None


class Space(TypedDict):
    """A file system: bytes and inodes, in all and free."""

    total: int
    free: int
    inodes: int
    inodes_free: int


class Drain(TypedDict):
    """An older instance that still serves its open connections, at most until then."""

    release: str | None
    until: float
    connections: int


class Certificate(TypedDict):
    """The certificate that the edge serves for a name."""

    name: str
    not_after: float | None


class Status(TypedDict):
    """`hostctl APP status`."""

    app: str
    live: LiveRelease | None
    health: Health
    maintenance: MaintenanceState | None
    lock: Json | None
    transition: TransitionSummary | None
    disk: Space
    drains: list[Drain]
    certificate: Certificate | None
    memory: int | None
    database: DatabaseStatus | None
    cron: list[Json]
    accessories: list[AccessoryStatus]
    trouble: list[str]


# ---------------------------------------------------------------------------------------------- notifications


class ReceiverConfig(TypedDict):
    """A receiver of notices: the name of the secret that holds its URL, its format, and its events."""

    url: str
    format: str
    on: list[str]


class ReceiverList(TypedDict):
    """The receivers, as notify.json keeps them."""

    receivers: list[ReceiverConfig]


class ReceiverUpdate(ReceiverList):
    """The receivers from provisioning with their URLs; None keeps the URL that the host has."""

    urls: dict[str, str | None]


class NoticeDocument(TypedDict):
    """A notice as a receiver of the format json gets it, with `facts` in place."""

    app: str
    host: str
    at: float
    event: str
    well: bool
    title: str
    text: str
    facts: Json


class QueuedNotice(NoticeDocument):
    """A notice in the queue of a receiver: how often it was tried, and when the next try is due."""

    receiver: ReceiverConfig
    tries: int
    next: float


class Attempt(TypedDict):
    """The last try to send to a receiver; `status` is 0 without an answer, and `answer` then says why."""

    id: str
    at: float
    event: str
    title: str
    ok: bool
    status: int
    answer: str
    next_try: float | None


class ReceiverStatus(ReceiverConfig):
    """A receiver, how many notices wait for it, and the last try."""

    waiting: int
    last: Attempt | None


class TestAnswer(TypedDict):
    """The answer of a receiver to a test."""

    url: str
    ok: bool
    status: int
    answer: str


class TroubleState(TypedDict):
    """The trouble that the monitor saw last (`seen`), the trouble that receivers were told of, and since when."""

    since: float
    seen: list[str]
    told: list[str]
