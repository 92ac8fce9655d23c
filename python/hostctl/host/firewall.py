"""The host's firewall: from outside only SSH, the edge, and what deploy.yml opens.

One table of nftables, which is Homeport's own; what else is there stays. A change has to be confirmed over a new
connection within a minute, else the host takes it back by itself: nobody is locked out by a wrong rule.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, TypedDict

from hostctl.common import files
from hostctl.common.errors import FAILED, USAGE, HostError
from hostctl.common.files import read_json
from hostctl.core import lock
from hostctl.core.paths import Layout
from hostctl.core.schema import flag, list_of
from hostctl.host import exposure
from hostctl.host.exposure import CHATTER, Service

TABLE = "inet homeport"
EDGE = ("80/tcp", "443/tcp", "443/udp")
UNIT = "homeport-firewall.service"  # loads the rules at boot
UNDO = "homeport-firewall-undo"
LOCK_SECONDS = 60  # how long one provisioning of the host waits for another that changes the rules
PORT = re.compile(r"([1-9][0-9]{0,4})/(tcp|udp)")
PROGRAM_SECONDS = 30  # the time limit of nft, sshd, systemctl and systemd-run
NO_PROGRAM = 127  # the exit status of a shell for it
# units whose ports the firewall is there to close: the apps' and Homeport's own
OWN_UNITS = re.compile(r"homeport-.*|caddy\.service")


class Wish(TypedDict):
    """What one app asks for: whether there is a firewall, and what is open besides SSH and the edge."""

    enabled: bool
    open: list[str]


SPEC = {"enabled": flag, "open": list_of(lambda value: isinstance(value, str) and is_port(value))}


class Places(NamedTuple):
    """Where the firewall is kept: the wishes of the apps, the rules in force, and those that wait to be confirmed."""

    wishes: Path
    rules: Path
    candidate: Path
    lock: Path

    @classmethod
    def of(cls, layout: Layout) -> Places:
        base = layout.root / "etc/homeport/firewall"
        return cls(base / "apps", base / "rules.nft", base / "candidate.nft", base / "lock")


# ---------------------------------------------------------------------------------------------- rules


def is_port(text: str) -> bool:
    """Whether a text is a port with its protocol, such as 25/tcp."""
    match = PORT.fullmatch(text)
    return match is not None and int(match[1]) <= 65_535


def opened(wishes: Iterable[Wish], ssh: Iterable[int]) -> list[str] | None:
    """The ports that are open, sorted; None if no app wants a firewall."""
    wanting = [wish for wish in wishes if wish["enabled"]]
    if not wanting:
        return None
    names = {*EDGE, *(f"{port}/tcp" for port in ssh), *(name for wish in wanting for name in wish["open"])}
    return sorted(names, key=lambda name: (name.partition("/")[2], int(name.partition("/")[0])))


def rules(names: Sequence[str] | None) -> str:
    """The program for `nft -f`. It replaces the table in one step, or with None removes it.

    TCP is refused as by a port on which nobody listens: whoever errs learns it at once. All else is dropped.
    A protocol without ports passes, of a tunnel or of VRRP for instance: what a tunnel carries passes here again.
    """
    remove = f"table {TABLE}\ndelete table {TABLE}\n"
    if names is None:
        return remove
    ports = {
        kind: ", ".join(name.partition("/")[0] for name in names if name.endswith(kind)) for kind in ("tcp", "udp")
    }
    accepts = "".join(f"        {kind} dport {{ {list_} }} accept\n" for kind, list_ in ports.items() if list_)
    return f"""{remove}table {TABLE} {{
    chain input {{
        type filter hook input priority filter; policy drop;
        ct state vmap {{ established : accept, related : accept, invalid : drop }}
        iif lo accept
        meta l4proto != {{ tcp, udp, udplite, sctp, dccp }} accept
        udp sport 67 udp dport 68 accept
        ip6 saddr fe80::/10 udp dport 546 accept
{accepts}        meta l4proto tcp reject with tcp reset
    }}
}}
"""


def closed(found: Iterable[Service], names: Sequence[str], apps: Iterable[str]) -> list[Service]:
    """The services that other machines can reach now, and could not with these ports: neither an app's, nor what a
    server serves to its neighbours by default.
    """
    prefixes = tuple(f"{app}@" for app in apps)
    return [
        each
        for each in found
        if each.name not in names
        and each.program not in CHATTER
        and not OWN_UNITS.fullmatch(each.unit)
        and not (prefixes and each.unit.startswith(prefixes))
    ]


# ---------------------------------------------------------------------------------------------- transitions


def apply(layout: Layout, app: str, wish: Wish, seconds: int) -> dict[str, object]:
    """Note what an app asks for, and put the rules of all apps in force until they are confirmed, or for `seconds`.

    Returns whether they have to be confirmed. Raises HostError, and changes nothing, where SSH's port is not found,
    and where the first rules would close what somebody may need.
    """
    places, found = Places.of(layout), exposure.services()
    with _lock(places):
        wishes = {**_wishes(places), app: wish}
        names = opened(wishes.values(), _ssh_ports(found))
        if names is not None and not places.rules.exists():
            _refuse_to_close(closed(found, names, wishes))
        text = rules(names)
        changed = text != _confirmed(places) or not _in_force(names)
        if changed:
            _load_for(places, text, seconds)
        files.make_directory(places.wishes, 0o755)
        files.write_json(places.wishes / f"{app}.json", wish, 0o644)
    _load_at_boot()
    return {"changed": changed}


def confirm(layout: Layout) -> dict[str, object]:
    """Keep the rules that wait to be confirmed; also after a reboot. Raises HostError if none wait any more."""
    places = Places.of(layout)
    with _lock(places):
        _confirm(places)
    return {"confirmed": True}


def _confirm(places: Places) -> None:
    if not places.candidate.exists():
        what = "the firewall's new rules were not confirmed in time, and are taken back"
        raise HostError(what, str(places.candidate), "deploy provision; hardening.firewall in deploy.yml", FAILED)
    _run("systemctl", "stop", f"{UNDO}.timer")
    if places.candidate.read_text() == rules(None):
        files.unlink(places.rules)
        files.unlink(places.candidate)
    else:
        places.candidate.replace(places.rules)
        files.sync_directory(places.rules.parent)


def undo(layout: Layout) -> dict[str, object]:
    """Take back rules that nobody has confirmed."""
    places = Places.of(layout)
    with _lock(places):
        if not places.candidate.exists():
            return {"undone": False}
        _load(_confirmed(places))
        files.unlink(places.candidate)
    return {"undone": True}


class State(NamedTuple):
    """Whether an app wants a firewall, and which ports it leaves open; None where it is not in force."""

    wanted: bool
    open: list[str] | None


def state(layout: Layout) -> State:
    """What there is of the firewall. Needs root."""
    places = Places.of(layout)
    wanted = any(wish["enabled"] for wish in _wishes(places).values())
    if not places.rules.exists() or not _in_force([]):
        return State(wanted, None)
    return State(wanted, _open_in(places.rules.read_text()))


def forget(layout: Layout, app: str) -> None:
    """Close what an app that is removed had opened, unless something else still serves it: nobody would confirm that
    the host is reached without it, through a VPN for instance. The firewall itself stays. Raises HostError.
    """
    places = Places.of(layout)
    files.unlink(places.wishes / f"{app}.json")
    if not places.rules.exists():
        return
    with _lock(places):
        text = rules(_without(app, places, exposure.services()))
        _load(text)
        files.write_atomic(places.rules, text.encode(), 0o644)


def _without(app: str, places: Places, found: list[Service]) -> list[str] | None:
    """The ports that stay open without an app, sorted; None if the apps that stay want no firewall."""
    wishes = _wishes(places) or {app: Wish(enabled=True, open=[])}
    ssh = _ssh_ports(found)
    names = opened(wishes.values(), ssh)
    if names is None:
        return None
    served = {each.name for each in closed(found, names, {*wishes, app})}
    kept = [name for name in _open_in(places.rules.read_text()) if name in served]
    return opened([*wishes.values(), Wish(enabled=True, open=kept)], ssh)


def _open_in(text: str) -> list[str]:
    """The ports that these rules leave open."""
    found = re.findall(r"(tcp|udp) dport \{ ([0-9, ]+) \}", text)
    return [f"{port}/{protocol}" for protocol, ports in found for port in ports.split(", ")]


def _ssh_ports(found: list[Service]) -> set[int]:
    """Raises HostError where none is found: a firewall would lock everybody out."""
    shown = _run("systemctl", "show", "--property=ActiveState,Listen", "ssh.socket").stdout
    sockets = shown if "ActiveState=active" in shown.splitlines() else ""
    ports = exposure.ssh_ports(found, _run("sshd", "-T").stdout, sockets)
    if not ports:
        raise HostError("no port of SSH is found, which must stay open", "sshd -T", "systemctl status ssh", FAILED)
    return ports


def _load_at_boot() -> None:
    """Enable the unit, and have systemd read it anew, where it has not: also after a run that was killed."""
    shown = _run("systemctl", "show", "--property=UnitFileState,NeedDaemonReload", UNIT).stdout.splitlines()
    if not {"UnitFileState=enabled", "NeedDaemonReload=no"} <= set(shown):
        _run("systemctl", "daemon-reload")
        done = _run("systemctl", "enable", UNIT)
        if done.returncode != 0:
            what = f"systemd does not enable the unit: {done.stderr.strip()[:300]}"
            raise HostError(what, UNIT, "deploy provision", FAILED)


def _lock(places: Places) -> AbstractContextManager[None]:
    """One change of the rules at a time. Raises HostError where another lasts longer."""
    files.make_directory(places.lock.parent, 0o755)
    busy = HostError("another provisioning changes the firewall now", str(places.lock), "try again", FAILED)
    return lock.hold(places.lock, busy, LOCK_SECONDS)


def _refuse_to_close(found: Sequence[Service]) -> None:
    if not found:
        return
    named = ", ".join(f"{each.name} ({each.program})" for each in found)
    what = f"other machines can reach {named} now, which the firewall would close"
    names = ", ".join(sorted({each.name for each in found}))
    fix = (
        f"hardening.open: [{names}] in deploy.yml to keep it open, or stop what serves it, or hardening.firewall: false"
    )
    raise HostError(what, "ss -tulpn", fix, USAGE)


def _load_for(places: Places, text: str, seconds: int) -> None:
    """Put rules in force, once it is certain that they will be taken back."""
    files.make_directory(places.candidate.parent, 0o755)
    files.write_atomic(places.candidate, text.encode(), 0o644)
    _run("systemctl", "stop", f"{UNDO}.timer", f"{UNDO}.service")
    words = (f"--unit={UNDO}", f"--on-active={seconds}", "--timer-property=AccuracySec=1s", "--collect")
    done = _run("systemd-run", "--quiet", *words, "/usr/local/lib/homeport/root-hostctl", "host", "firewall", "undo")
    if done.returncode != 0:
        files.unlink(places.candidate)
        what = f"systemd runs no timer: {done.stderr.strip()[:300]}"
        raise HostError(what, f"{UNDO}.timer", "systemctl reset-failed; deploy provision", FAILED)
    try:
        _load(text)
    except HostError:
        files.unlink(places.candidate)
        _run("systemctl", "stop", f"{UNDO}.timer")
        raise


def _load(text: str) -> None:
    done = _run("nft", "-f", "-", stdin=text)
    if done.returncode != 0:
        fix = "nft list ruleset; another kernel or container may lack nftables: hardening.firewall: false in deploy.yml"
        raise HostError(f"nft refuses the rules: {done.stderr.strip()[:300]}", "nft -f", fix, FAILED)


def _in_force(names: Sequence[str] | None) -> bool:
    """Whether the table is there, or as wished is not."""
    return (_run("nft", "list", "table", *TABLE.split()).returncode == 0) == (names is not None)


def _wishes(places: Places) -> dict[str, Wish]:
    found = {path.stem: read_json(path) for path in sorted(places.wishes.glob("*.json"))}
    return {app: Wish(enabled=bool(wish["enabled"]), open=list(wish["open"])) for app, wish in found.items() if wish}


def _confirmed(places: Places) -> str:
    """The rules that were confirmed last, and are loaded at boot."""
    return places.rules.read_text() if places.rules.exists() else rules(None)


def _run(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=False)
    except FileNotFoundError:  # sshd, where another program serves SSH
        return subprocess.CompletedProcess(words, NO_PROGRAM, "", f"{words[0]} is not installed")
