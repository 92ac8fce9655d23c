"""Selects releases: the target of a rollback, and what to prune. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hostctl.common.documents import Point, Record
from hostctl.common.errors import FAILED, USAGE, HostError

KEPT_FAILURES = 2
KEPT_ARTIFACTS = 3
KEPT_TRANSITIONS = 50


class Candidate(NamedTuple):
    """A release to select from. `lived` is when it last went live, 0.0 for never."""

    release: str
    state: str
    lived: float = 0.0
    withdrawn: bool = False
    present: bool = True
    running: bool = False
    sha: str = ""
    digest: str = ""


def candidate(record: Record, present: bool, running: bool) -> Candidate:
    """The candidate of a record."""
    git = record.get("git")
    lived = [e["at"] for e in record["history"] if e["state"] == "live"]
    why = record["history"][-1].get("why", "") if record["history"] else ""
    return Candidate(
        record["release"],
        record["state"],
        max(lived, default=0.0),
        why == "rollback",
        present,
        running,
        (git["sha"] or "") if git else "",
        record["digest"],
    )


def rollback_target(all_seen: Sequence[Candidate], live: str | None, wanted: str | None) -> str:
    """The release to go back to: the one named (id, prefix or git sha), else the last that was live before
    `live`.

    A release that was itself taken back is no default: somebody found it bad. Raises HostError with the
    reason.
    """
    if live is None:
        raise _refused("nothing is live, so there is nothing to go back from", "deploy push")
    if wanted is None:
        return _default_target(all_seen, live)
    return _named_target(all_seen, live, wanted)


def _default_target(all_seen: Sequence[Candidate], live: str) -> str:
    lived = [one for one in all_seen if one.lived and one.release != live and one.present and one.state != "failed"]
    good = [one for one in lived if not one.withdrawn]
    if good:
        return max(good, key=lambda one: (one.lived, one.release)).release
    if lived:
        raise _refused("every earlier release was taken back before", f"deploy rollback {lived[-1].release}")
    raise _refused(f"{live} is the only release that was ever live", "deploy push")


def _named_target(all_seen: Sequence[Candidate], live: str, wanted: str) -> str:
    found = matching(all_seen, wanted)
    if len(found) != 1:
        what = "no release matches" if not found else f"{len(found)} releases match"
        raise _refused(f"{what} {wanted}", "deploy releases", USAGE)
    target = found[0]
    if target.release == live:
        raise _refused(f"{live} is live already", "deploy releases")
    if target.state == "failed" or not target.lived:
        raise _refused(
            f"{target.release} was never live and healthy ({target.state})",
            "deploy releases, and name another",
        )
    if not target.present:
        raise _refused(f"the files of {target.release} are gone", "deploy releases, and name another")
    return target.release


def check_point(found: Point, wanted: str | None, agreed: str | None) -> None:
    """Whether a rollback with data may go to the restore point that was found. Raises HostError.

    Its data belongs to one release alone, and what a person agreed to must be what still is so.
    """
    if wanted is not None and not found["release"].startswith(wanted):
        what = f"the data can only go back to {found['release']}, to which the restore point belongs"
        raise _refused(what, "deploy rollback --with-data, without a release", USAGE)
    if agreed is not None and found["id"] != agreed:
        raise _refused("another release went live meanwhile", "deploy rollback --with-data, and look again")


def matching(all_seen: Sequence[Candidate], wanted: str) -> list[Candidate]:
    """The releases that a word names: by id, by its beginning, or by git sha; the newest where a sha was
    pushed twice.
    """
    by_id = [one for one in all_seen if one.release.startswith(wanted)]
    if by_id:
        return by_id
    by_sha = [one for one in all_seen if len(wanted) >= 7 and one.sha.startswith(wanted.lower())]
    same = {one.sha for one in by_sha}
    usable = [one for one in by_sha if one.lived and one.present] or by_sha
    return [max(usable, key=lambda one: one.release)] if len(same) == 1 else by_sha


def _refused(what: str, fix: str, code: int = FAILED) -> HostError:
    return HostError(what, "releases on the host", fix, code)


def prunable(all_seen: Sequence[Candidate], live: str | None, retain: int) -> list[str]:
    """What to remove: good releases beyond the `retain` last live ones, failures beyond the newest two.

    Never what is live, runs, or is still staged.
    """
    good = [one for one in all_seen if one.state in ("live", "superseded") and one.release != live]
    good.sort(key=lambda one: (one.lived, one.release), reverse=True)
    failed = sorted((one for one in all_seen if one.state == "failed"), key=lambda one: one.release, reverse=True)
    beyond = good[max(0, retain - (live is not None)) :] + failed[KEPT_FAILURES:]
    return sorted(one.release for one in beyond if not one.running and one.release != live)


def kept_artifacts(all_seen: Sequence[Candidate], live: str | None) -> set[str]:
    """The digests whose tars stay: those of the live release and of the newest ones, as bases for deltas; the newest
    may have failed, and be pushed again once its settings are mended.
    """
    newest = sorted(all_seen, key=lambda one: one.release, reverse=True)
    kept = [one.digest for one in newest[:KEPT_ARTIFACTS]]
    return {*kept, *(one.digest for one in all_seen if one.release == live or one.state == "staged")}
