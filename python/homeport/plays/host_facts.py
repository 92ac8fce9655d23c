"""The program that the action facts runs on the host, which may have nothing but Python: it prints what is there.

It is sent as text and imports nothing of Homeport.
"""

import grp
import hashlib
import json
import os
import pwd
import stat
import subprocess
from pathlib import Path

PROGRAMS = ("usr/local/bin/caddy", "usr/local/sbin/hostctl", "usr/local/lib/homeport", "usr/local/lib/homeport/*")


def distribution() -> dict[str, str]:
    """As ansible.builtin.setup names it."""
    release = dict(line.split("=", 1) for line in text("/etc/os-release").splitlines() if "=" in line)
    name, major = (release.get(key, "").strip('"') for key in ("ID", "VERSION_ID"))
    return {
        "distribution": name.capitalize(),
        "distribution_major_version": major.split(".")[0],
        "distribution_version": text("/etc/debian_version").strip() if name == "debian" else major,
        "architecture": os.uname().machine,
    }


def text(path: str) -> str:
    """The text of a file; "" for one that is not there."""
    file = Path(path)
    return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""


def packages() -> list[str]:
    """The names of the packages that are installed."""
    listed = ["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Package}\\n"]
    done = subprocess.run(listed, stdout=subprocess.PIPE, text=True, check=True)
    return sorted({line.split()[1] for line in done.stdout.splitlines() if line.startswith("installed ")})


def accounts() -> dict[str, dict[str, str]]:
    """The home, the shell and the kind of password of every user. No hash is told: `set` stands for one."""
    shadow = dict(line.split(":")[:2] for line in text("/etc/shadow").splitlines() if ":" in line)
    return {
        user.pw_name: {"home": user.pw_dir, "shell": user.pw_shell, "password": password(shadow.get(user.pw_name, ""))}
        for user in pwd.getpwall()
    }


def password(field: str) -> str:
    return field if field in ("*", "!", "!*", "") else "set"


def programs() -> dict[str, dict[str, str]]:
    """Owner, group and mode of Homeport's programs by path, with the SHA-256 of a file. Links do not count."""
    found = {}
    for path in [path for pattern in PROGRAMS for path in Path("/").glob(pattern)]:
        state = path.lstat()
        if stat.S_ISREG(state.st_mode):
            found[str(path)] = dict(rights(state), sha256=digest(path))
        elif stat.S_ISDIR(state.st_mode):
            found[str(path)] = rights(state)
    return found


def rights(state: os.stat_result) -> dict[str, str]:
    return {
        "owner": name(pwd.getpwuid, state.st_uid),
        "group": name(grp.getgrgid, state.st_gid),
        "mode": f"{stat.S_IMODE(state.st_mode):04o}",
    }


def name(ask: object, number: int) -> str:
    """The name of a user or group; its number where it has none."""
    try:
        return str(ask(number)[0])  # type: ignore[operator]
    except KeyError:
        return str(number)


def digest(path: Path) -> str:
    whole = hashlib.sha256()
    with path.open("rb") as file:
        for part in iter(lambda: file.read(1 << 20), b""):
            whole.update(part)
    return whole.hexdigest()


def main() -> None:
    """Print the facts as one JSON document."""
    homeport = {
        "packages": packages() if distribution()["distribution"] == "Debian" else [],
        "accounts": accounts(),
        "programs": programs(),
        "units": sorted(path.name for path in Path("/etc/systemd/system").glob("homeport-*")),
        "settings": sorted(map(str, Path("/etc/homeport").glob("*/*.json"))),
    }
    print(json.dumps(dict(distribution(), homeport=homeport)))


if __name__ == "__main__":
    main()
