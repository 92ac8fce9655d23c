"""Selects releases: the target of a rollback, and those to prune. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hostctl.common.documents import Point, Record
from hostctl.common.errors import FAILED, USAGE, HostError

KEPT_FAILURES = 2  # releases that failed
KEPT_ARTIFACTS = 3
KEPT_TRANSITIONS = 50


class Candidate(NamedTuple):
    """A release to select from. `lived`: when it last went live (0.0: never); `withdrawn`: a rollback replaced it."""

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
    lived = [change["at"] for change in record["history"] if change["state"] == "live"]
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


def rollback_target(candidates: Sequence[Candidate], live: str | None, reference: str | None) -> str:
    """The target of a rollback: the release of the `reference` (id, prefix or git sha), else the last that was live
    before `live`.

    A withdrawn release is not the default, since a person found it bad. Raises HostError.
    """
    if live is None:
        raise _refused("nothing is live, so there is nothing to go back from", "deploy push")
    if reference is None:
        return _default_target(candidates, live)
    return _named_target(candidates, live, reference)


def _default_target(candidates: Sequence[Candidate], live: str) -> str:
    lived = [each for each in candidates if each.lived and each.release != live and each.present]
    lived = [each for each in lived if each.state != "failed"]
    good = [each for each in lived if not each.withdrawn]
    if good:
        return max(good, key=lambda each: (each.lived, each.release)).release
    if lived:
        raise _refused("every earlier release was taken back before", f"deploy rollback {lived[-1].release}")
    raise _refused(f"{live} is the only release that was ever live", "deploy push")


def _named_target(candidates: Sequence[Candidate], live: str, reference: str) -> str:
    matches = matching(candidates, reference)
    if len(matches) != 1:
        what = "no release matches" if not matches else f"{len(matches)} releases match"
        raise _refused(f"{what} {reference}", "deploy releases", USAGE)
    target = matches[0]
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


def check_point(point: Point, reference: str | None, confirmed: str | None) -> None:
    """Raises HostError unless a rollback with data may use the restore point: its data belongs to the release of the
    `reference`, and it is still the point that the person `confirmed`.
    """
    if reference is not None and not point["release"].startswith(reference):
        what = f"the data can only go back to {point['release']}, to which the restore point belongs"
        raise _refused(what, "deploy rollback --with-data, without a release", USAGE)
    if confirmed is not None and point["id"] != confirmed:
        raise _refused("another release went live meanwhile", "run deploy rollback --with-data again")


def matching(candidates: Sequence[Candidate], reference: str) -> list[Candidate]:
    """The releases whose id or git sha begins with the reference; of several with the same sha only the newest."""
    by_id = [each for each in candidates if each.release.startswith(reference)]
    if by_id:
        return by_id
    by_sha = [each for each in candidates if len(reference) >= 7 and each.sha.startswith(reference.lower())]
    shas = {each.sha for each in by_sha}
    usable = [each for each in by_sha if each.lived and each.present] or by_sha
    return [max(usable, key=lambda each: each.release)] if len(shas) == 1 else by_sha


def _refused(what: str, fix: str, code: int = FAILED) -> HostError:
    return HostError(what, "releases on the host", fix, code)


def prunable(candidates: Sequence[Candidate], live: str | None, retain: int) -> list[str]:
    """The releases to remove: good ones except the `retain` last live ones, failed ones except the newest two.

    Never a release that is live, runs, or is staged.
    """
    good = [each for each in candidates if each.state in ("live", "superseded") and each.release != live]
    good.sort(key=lambda each: (each.lived, each.release), reverse=True)
    failed = sorted(
        (each for each in candidates if each.state == "failed"), key=lambda each: each.release, reverse=True
    )
    excess = good[max(0, retain - (live is not None)) :] + failed[KEPT_FAILURES:]
    return sorted(each.release for each in excess if not each.running and each.release != live)


def kept_artifacts(candidates: Sequence[Candidate], live: str | None) -> set[str]:
    """The digests of the artifacts to keep as bases for deltas: those of the live, the staged and the newest releases.

    The newest may have failed, and is pushed again once its settings are corrected.
    """
    newest = sorted(candidates, key=lambda each: each.release, reverse=True)
    digests = [each.digest for each in newest[:KEPT_ARTIFACTS]]
    return {*digests, *(each.digest for each in candidates if each.release == live or each.state == "staged")}
