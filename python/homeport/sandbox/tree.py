"""Configures a plain Debian tree as the host of a sandbox: name, keys, address and settings."""

from __future__ import annotations

import shutil
import uuid
from dataclasses import replace
from pathlib import Path

from homeport.sandbox import sources
from homeport.sandbox.addresses import GATEWAY
from homeport.sandbox.commands import run
from homeport.sandbox.model import Sandbox

# timers that would start apt or dpkg in the middle of a test, and consoles that a container does not have
_MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "man-db.timer",
    "console-getty.service",
    "getty@tty1.service",
    "systemd-networkd-wait-online.service",
    "networking.service",
)
_HOST_KEYS = ("ed25519", "ecdsa")
_APT_FROM_MACHINE = (
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
    "Acquire::http::Proxy",
    "Acquire::https::Proxy",
)


def settings(sandbox: Sandbox) -> dict[str, str]:
    """The content of the files that differ from plain Debian, by path in the tree."""
    return {
        "etc/hostname": f"{sandbox.name}\n",
        "etc/hosts": f"127.0.0.1 localhost\n::1 localhost ip6-localhost\n{sandbox.address} {sandbox.name}\n",
        "etc/machine-id": f"{uuid.uuid4().hex}\n",
        "etc/locale.conf": "LANG=C.UTF-8\n",
        "etc/default/locale": "LANG=C.UTF-8\n",
        "etc/systemd/journald.conf.d/persistent.conf": "[Journal]\nStorage=persistent\n",
        "etc/ssh/sshd_config.d/sandbox.conf": _sshd(sandbox.suite),
        "etc/apt/apt.conf.d/90sandbox": 'APT::Periodic::Enable "0";\n' + _apt_of_machine(),
        "etc/apt/sources.list": _sources(sandbox.suite),
        # faster; the power cut of a sandbox is a killed process, which loses no page cache
        "etc/dpkg/dpkg.cfg.d/sandbox": "force-unsafe-io\n",
        "etc/resolv.conf": name_servers(),
    }


def _sshd(suite: str) -> str:
    """Exempt this machine from the penalties of OpenSSH 9.8 and newer: all connections of tests come from it."""
    return "" if suite == "bookworm" else f"PerSourcePenaltyExemptList {GATEWAY}\n"


def _sources(suite: str) -> str:
    # with Debian's own keyring, because the machine's may have another name
    return "".join(f"{replace(source, keyring='').line()}\n" for source in sources.of_machine(suite))


def _apt_of_machine() -> str:
    lines = run("apt-config", "dump").splitlines()
    return "".join(f"{line}\n" for line in lines if line.split(" ", 1)[0] in _APT_FROM_MACHINE)


def name_servers(root: Path = Path("/")) -> str:
    """The machine's resolv.conf; with systemd-resolved the upstream one, because the sandbox cannot reach the stub."""
    etc, upstream = root / "etc/resolv.conf", root / "run/systemd/resolve/resolv.conf"
    text = etc.read_text() if etc.exists() else ""
    return upstream.read_text() if "nameserver 127." in text and upstream.exists() else text


def prepare(sandbox: Sandbox, tree: Path) -> None:
    """Configure a newly unpacked tree."""
    for name, content in settings(sandbox).items():
        _write(tree / name, content)
    for unit in _MASKED:
        (tree / "etc/systemd/system" / unit).symlink_to("/dev/null")
    _trust_machine_authorities(tree)
    _install_keys(sandbox, tree)


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(content)


def _trust_machine_authorities(tree: Path) -> None:
    """Trust the certificates that this machine trusts, such as that of an inspecting proxy."""
    added = sorted(Path("/usr/local/share/ca-certificates").glob("**/*.crt"))
    for certificate in added:
        shutil.copy(certificate, tree / "usr/local/share/ca-certificates")
    if added:
        run("chroot", str(tree), "update-ca-certificates")


def make_keys(sandbox: Sandbox) -> None:
    """Create the user's key, the host's keys, and the known_hosts file that pins the host's keys."""
    _keygen(sandbox.key, "ed25519", "homeport-sandbox")
    for kind in _HOST_KEYS:
        _keygen(sandbox.machine / f"ssh_host_{kind}_key", kind, f"root@{sandbox.name}")
    public = (_public(sandbox.machine / f"ssh_host_{kind}_key") for kind in _HOST_KEYS)
    sandbox.known_hosts.write_text("".join(f"{sandbox.address} {key}\n" for key in public))


def _keygen(path: Path, kind: str, comment: str) -> None:
    run("ssh-keygen", "-q", "-t", kind, "-N", "", "-C", comment, "-f", str(path))


def _public(path: Path) -> str:
    return " ".join(path.with_name(f"{path.name}.pub").read_text().split()[:2])


def _install_keys(sandbox: Sandbox, tree: Path) -> None:
    for old in (tree / "etc/ssh").glob("ssh_host_*"):
        old.unlink()
    for key in sandbox.machine.glob("ssh_host_*"):
        shutil.copy(key, tree / "etc/ssh")
    authorized = tree / "root/.ssh/authorized_keys"
    authorized.parent.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(sandbox.key.with_name("ssh_key.pub"), authorized)
    authorized.chmod(0o600)
