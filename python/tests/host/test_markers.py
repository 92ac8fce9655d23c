"""A marker in every secret, and a search for it in every byte that any verb leaves anywhere.

The verbs run at their most talkative, and again with an ssh that repeats whatever it is told. What they write is
searched for each marker: as it is, as it stands between quotes of any kind, and in base64. On the host the markers may
only be where systemd keeps an app's credentials while it runs.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import platformdirs
import pytest
import yaml

from homeport.cli import VERBS
from homeport.sandbox import Sandbox
from homeport.sandbox.services import read_credentials
from homeport.secrets import ansible_vault as vault
from tests.apps.support import build_ledger
from tests.certificates import Authority
from tests.host.command_lines import watching
from tests.host.support import DEPLOY, LONGEST_SECONDS, SETTINGS, Project, new_project, on_host
from tests.receiver import listening

APP = "marked"
GATEWAY = "198.51.100.1"  # this machine, as the host sees it
DOMAIN, OWN_DOMAIN = f"{APP}.sandbox.test", f"own.{APP}.sandbox.test"
CACHE = Path(platformdirs.user_cache_dir("homeport"))
SEARCHED = "/etc /home /opt /root /run /srv /tmp /usr/local /var"
# where what needs a secret reads it: credentials that systemd opens for an app or an accessory while it runs; the keys
# of the bucket, for the stream; a certificate with its key, for the edge
ALLOWED = re.compile(
    rf"root: (/run/credentials/({APP}@[^/]*|homeport-{APP}-accessory-redis)\.service/[^/]+"
    rf"|/etc/homeport/{APP}/backup\.env|/etc/homeport/edge/certs/{APP}/[^/]+\.pem)"
)

# What on the host holds one of the words that it is given, a line each.
SEARCH = rf"""
cat >/dev/shm/words; journalctl --sync
grep -rlaF -f /dev/shm/words {SEARCHED} 2>/dev/null | while read -r file; do
  setpriv --reuid=nobody --regid=nogroup --clear-groups test -r "$file" && echo "anybody: $file" || echo "root: $file"
done
journalctl -a -o export --no-pager | grep -aF -f /dev/shm/words | sed 's/^/journal: /'
systemctl show '*' | grep -aF -f /dev/shm/words | sed 's/^/show: /'
systemctl cat '*' | grep -aF -f /dev/shm/words | sed 's/^/cat: /'
rm /dev/shm/words
"""

# from the environment of the only instance
PASSWORD_OF_REDIS = rf"""
pid=$(systemctl show -P MainPID '{APP}@*')
tr '\0' '\n' </proc/$pid/environ | sed -n 's|^REDIS_URL=redis://[^:]*:\([^@]*\)@.*|\1|p'
"""

# an ssh, and with it a host, that repeats whatever it is told
ECHO = """#!/bin/sh
echo "ssh: $*" >&2
timeout 1 cat >&2
exit 1
"""


@dataclass(frozen=True)
class Run:
    """One call of a verb. `code` is its exit status; one that stays is interrupted once it has said `until`."""

    words: str
    code: int = 0
    stdin: str = ""
    until: str = ""
    env: Mapping[str, str] = field(default_factory=dict)


WRONG_PASSWORD = {"HOMEPORT_VAULT_PASSWORD": "{OTHER_PASSWORD}"}

# Every verb with its ways, in an order in which an app comes, lives and goes; a verb without an entry fails the test.
TABLE: dict[str, list[Run]] = {
    "sandbox": [Run("sandbox status --name {box} --json"), Run("sandbox status --name nobody-has-this", 1)],
    "completion": [Run("completion bash"), Run("completion tcsh", 2)],
    "docs": [Run("docs --json"), Run("docs nothing", 2)],
    "init": [Run("init", 2)],
    "config": [Run("config --explain"), Run("config --json")],
    "secrets": [
        Run("secrets list --json"),
        Run("secrets check"),
        Run("secrets set TYPED_KEY", stdin="{TYPED_KEY}"),
        Run("secrets set TYPED_KEY", 2, stdin="{TYPED_KEY}", env=WRONG_PASSWORD),
        Run("secrets edit", env={"EDITOR": "true"}),
        Run("secrets rotate MADE_KEY"),
        Run("secrets unset NOBODY", 2),
    ],
    "setup": [Run("setup --artifact {release}"), Run("setup --artifact {release}", 2, env=WRONG_PASSWORD)],
    "provision": [Run("provision")],
    "push": [
        Run("push --plan --artifact {release}"),
        Run("push --artifact {release} --json"),
        Run("-c sick.yml push --artifact {release}", 3),
        Run("push --artifact {release}", 2, env={"PLAIN_KEY": "\b{PLAIN_KEY}"}),
    ],
    "env": [
        Run("env push --plan"),
        Run("env push", env={"FROM_CI": "{ROTATED}"}),
        Run("env push --json", 2, env=WRONG_PASSWORD),
    ],
    "releases": [Run("releases --json"), Run("releases")],
    "status": [Run("status --json"), Run("status --check")],
    "apps": [Run("apps --json")],
    "certs": [Run("certs --json"), Run("certs push"), Run("certs push", 2, env=WRONG_PASSWORD)],
    "maintenance": [Run("maintenance on -m moving"), Run("maintenance status --json"), Run("maintenance off")],
    "doctor": [Run("doctor --json", 1)],
    "attach": [Run("attach")],
    "backup": [
        Run("backup run"),
        Run("backup status --json"),
        Run("backup list --json"),
        Run("backup check"),
        Run("backup drill"),
        Run("backup forget 20260101T000000000Z-abcdef --yes", 2),
    ],
    "restore": [Run("restore --dry-run"), Run("restore --at 1999-01-01", 2)],
    "db": [
        Run("db console", stdin="select 1;"),
        Run("db console", 1, stdin="select nothing;"),
        Run("db dump copy.db --json"),
        Run("db load deploy.yml --yes", 2),
        Run("db tunnel", 2),
        Run("db upgrade --yes", 2),
    ],
    "notify": [Run("notify list --json"), Run("notify test")],
    "accessory": [
        Run("accessory list --json"),
        Run("accessory restart redis"),
        Run("accessory logs redis"),
        Run("accessory remove redis", 2),
    ],
    "lock": [Run("lock acquire -m mine"), Run("lock status --json"), Run("lock release")],
    "logs": [Run("logs -n 1000 --json"), Run("logs --failed -n 1000"), Run("logs edge"), Run("logs nobody", 2)],
    "cron": [Run("cron list --json"), Run("cron run count"), Run("cron run fail", 1), Run("cron logs count")],
    "console": [Run("console", 2)],
    "rpc": [Run("rpc -", stdin='_ = "{ASKED}"; IO.puts(1)'), Run("rpc 'raise \"no\"'", 1)],
    "eval": [Run("eval -", stdin='_ = "{ASKED}"; IO.puts(1)'), Run("eval 'raise \"no\"'", 1)],
    "run": [Run("run sh -c 'printenv HOMEPORT_APP'"), Run("run bin/nope", 2)],
    "exec": [Run("exec sh -c 'cd /tmp && ls'"), Run("exec sh -c 'exit 9'", 9)],
    "ssh": [Run("ssh id -un"), Run("ssh false", 1)],
    "tunnel": [Run("tunnel --local {port}", until="open until"), Run("tunnel 0", 2)],
    "observer": [Run("observer {port}", until="run this"), Run("observer 1", 2)],
    "open": [Run("open --json"), Run("open 'a b'", 2)],
    "audit": [Run("audit -n 1000 --json"), Run("audit")],
    "rollback": [Run("rollback"), Run("rollback 1999", 2)],
    "remove": [Run("remove", 2), Run("remove --plan"), Run("remove --yes")],
}

# these ask no host, or are given a marker that only the host must not keep
ALONE = ("sandbox", "completion", "docs", "init", "config", "secrets", "open", "rpc", "eval")


def test_every_verb_has_its_runs() -> None:
    assert TABLE.keys() == VERBS.keys()


def core(token: str) -> Iterator[str]:
    """What of a token is always the same in base64 text, wherever in a longer text it stood."""
    for lead in range(3):
        text = base64.b64encode(b"\0" * lead + token.encode()).decode()
        yield text[-(-lead * 8 // 6) : (lead + len(token)) * 8 // 6]


@dataclass
class Marked:
    """A project whose secrets hold markers, what its verbs have printed, and where they may write on this machine."""

    project: Project
    home: Path
    tokens: dict[str, str]
    given: dict[str, str]
    printed: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    @cached_property
    def patterns(self) -> dict[str, str]:
        """Every spelling to look for, with the name of its secret."""
        found = {form: name for name, token in self.tokens.items() for form in (token, *core(token))}
        return {form: name for form, name in found.items() if form}

    def names(self, text: str) -> set[str]:
        """The secrets of which something is in a text."""
        return {name for form, name in self.patterns.items() if form in text}

    def everything(self) -> None:
        """Run the table, twice: as it is, and before the app goes with an ssh that repeats what it is told."""
        path = os.environ["PATH"]
        before = set(self.search())  # other apps of the host have the bucket's keys
        with watching(self.patterns) as self.shown:
            for verb, runs in TABLE.items():
                if verb == "remove":
                    self.left = [line for line in self.search() if line not in before]
                    self._echoed()
                for run in runs:
                    self.run(run, path)
                if verb == "secrets":
                    sealed = (self.project.root / "deploy.secrets.sandbox.yml").read_bytes()
                    made = yaml.safe_load(vault.unseal(sealed, self.given["PASSWORD"]))["MADE_KEY"]
                    self._meet("MADE_KEY", made)
                if verb == "setup":
                    self._meet("redis", on_host(self.project.box, PASSWORD_OF_REDIS).strip())

    def _meet(self, name: str, value: str) -> None:
        """A value that a machine has made is a marker, too."""
        assert value
        self.tokens[name] = value
        self.__dict__.pop("patterns", None)

    def _echoed(self) -> None:
        programs = self.home / "programs"
        programs.mkdir()
        (programs / "ssh").write_text(ECHO)
        (programs / "ssh").chmod(0o755)
        path = f"{programs}:{os.environ['PATH']}"
        asking = [runs[0] for verb, runs in TABLE.items() if verb not in ALONE]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(lambda run: self.run(run, path), asking):
                pass

    def _there(self, command: str) -> list[str]:
        return self.project.box.ssh_argv("--", command)

    def search(self) -> list[str]:
        """Where on the host something of a secret is: files with their modes, the journal, the units."""
        words = "\n".join(self.patterns)
        done = subprocess.run(self._there(SEARCH), input=words, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout.splitlines()

    def clean(self) -> None:
        """Take the app away, whatever became of it."""
        self.project.deploy("remove", "--yes", "--force", check=False)
        on_host(self.project.box, f"rm -rf /var/lib/homeport-removed/{APP}-*")

    def run(self, run: Run, path: str) -> None:
        """One call at the highest verbosity, with what it prints kept."""
        words = shlex.split(run.words.format_map(self.given))
        label = f"deploy {run.words} < {run.stdin!r} {dict(run.env)}"
        argv = [str(DEPLOY), "-v", "-d", f"sandbox:{self.project.box.name}", *words]
        env = {name: value.format_map(self.given) for name, value in run.env.items()}
        environment = {**os.environ, "FROM_CI": self.given["FROM_CI"], "TMPDIR": str(self.home), "PATH": path, **env}
        if run.until:
            code, text = self._until(argv, environment, run.until)
        else:
            done = subprocess.run(
                argv,
                cwd=self.project.root,
                env=environment,
                input=re.sub(r"{(\w+)}", lambda name: self.given[name[1]], run.stdin),
                capture_output=True,
                text=True,
                timeout=LONGEST_SECONDS,
            )
            code, text = done.returncode, done.stdout + done.stderr
        self.printed[f"{label} {path[:20]}"] = text
        if path == os.environ["PATH"] and code != run.code:
            self.wrong.append(f"{label}: exit status {code}\n{text[-2000:]}")

    def _until(self, argv: list[str], environment: dict[str, str], until: str) -> tuple[int, str]:
        pipe, both, said = subprocess.PIPE, subprocess.STDOUT, ""
        with subprocess.Popen(
            argv, cwd=self.project.root, env=environment, stdout=pipe, stderr=both, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                said += line
                if until in line:
                    process.terminate()
            return process.wait(), said


@pytest.fixture(scope="module")
def marked(box: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Marked]:
    """Every verb has been run, and every secret has been where it goes; the app is gone again."""
    directory = tmp_path_factory.mktemp("marked")
    home = Path(tempfile.mkdtemp(prefix="marked-", dir="/tmp"))  # short: a socket's path has 107 bytes at most
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        receiver = stack.enter_context(listening(GATEWAY, directory))
        found = _made(directory, box, home, receiver.url("/"))
        stack.callback(found.clean)
        _trust(box, (directory / "ca.pem").read_text())
        stack.callback(_trust, box, "")
        found.everything()
        yield found


def _trust(box: Sandbox, authority: str) -> None:
    """Have the host trust the authority; an empty one takes that away."""
    path = f"/usr/local/share/ca-certificates/{APP}.crt"
    on_host(box, f"printf %s {shlex.quote(authority)} >{path}; [ -s {path} ] || rm {path}; update-ca-certificates 2>&1")


def _made(directory: Path, box: Sandbox, home: Path, url: str) -> Marked:
    """A project with a marker in every secret."""
    names = ("PLAIN_KEY", "LINES_KEY", "COMMAND_KEY", "FROM_CI", "ROTATED", "TYPED_KEY", "ASKED", "NOTIFY_URL")
    tokens = {name: secrets.token_hex(16) for name in (*names, "PASSWORD", "OTHER_PASSWORD")}
    odd = "{}'\" $HOME `id` %20&x=1/+\\ é"
    given = {name: odd.format(token) for name, token in tokens.items()}
    given["LINES_KEY"] = f"-----BEGIN KEY-----\n{tokens['LINES_KEY']}/+==\n-----END KEY-----"
    given["NOTIFY_URL"] = f"{url}hook/{tokens['NOTIFY_URL']}?a=b%20c"
    given |= {name: tokens[name] for name in ("PASSWORD", "OTHER_PASSWORD", "ASKED")}
    project = new_project(directory / "project", box, _settings(), DOMAIN, "ledger")
    team = Authority()
    issued = team.of(OWN_DOMAIN)
    (project.root / "own.pem").write_text(team.chain(issued))
    (project.root / "roots.pem").write_text(team.root.pem + box.root.read_text())
    given["OWN_KEY"], tokens["OWN_KEY"] = issued.key, issued.key.splitlines()[1]
    shutil.copy(project.root / "deploy.yml", project.root / "sick.yml")
    sick = {**project.settings, "health": {**SETTINGS["health"], "path": "/nowhere"}}
    (project.root / "sick.sandbox.yml").write_text(yaml.safe_dump(sick))
    (project.root / ".gitignore").write_text(".vault\nprinted\n")
    (project.root / "printed").write_text(given["COMMAND_KEY"])
    (project.root / ".vault").write_text(given["PASSWORD"])
    (project.root / ".vault").chmod(0o600)
    kept = {name: given[name] for name in ("PLAIN_KEY", "LINES_KEY", "NOTIFY_URL", "OWN_KEY")}
    sealed = vault.seal(json.dumps({**kept, "TYPED_KEY": "not yet", "MADE_KEY": "not yet"}), given["PASSWORD"])
    (project.root / "deploy.secrets.yml").write_bytes(sealed)
    tokens["bucket"] = read_credentials(box.credentials)[1]
    given |= {"box": box.name, "release": str(build_ledger(directory)), "port": "14371"}
    return Marked(project, home, tokens, given)


def _settings() -> dict[str, Any]:
    names = ["PLAIN_KEY", "LINES_KEY", "COMMAND_KEY", "FROM_CI", "TYPED_KEY", "MADE_KEY"]
    return {
        **SETTINGS,
        "app": APP,
        "domains": [DOMAIN, {"name": OWN_DOMAIN, "certificate": "own.pem", "key": "OWN_KEY"}],
        "acme": {"root": "roots.pem"},
        "accessories": {"redis": {}},
        "env": {"secret": names},
        "secrets": {"password_file": ".vault", "commands": {"COMMAND_KEY": "cat printed"}},
        "notify": [{"url": "NOTIFY_URL", "format": "json"}],
        "cron": [
            {"name": "count", "schedule": "@yearly", "eval": "IO.puts(1 + 1)"},
            {"name": "fail", "schedule": "@yearly", "eval": 'raise "not today"'},
        ],
    }


@pytest.mark.full
def test_every_run_ended_as_it_should(marked: Marked) -> None:
    assert marked.wrong == []


@pytest.mark.full
def test_nothing_that_a_verb_prints_holds_a_secret(marked: Marked) -> None:
    assert {label: marked.names(text) for label, text in marked.printed.items() if marked.names(text)} == {}


@pytest.mark.full
def test_no_command_line_holds_a_secret(marked: Marked) -> None:
    assert marked.shown == []


@pytest.mark.full
def test_on_the_host_a_secret_is_only_where_the_app_and_root_read_it_while_it_runs(marked: Marked) -> None:
    assert [line for line in marked.left if not ALLOWED.fullmatch(line)] == []


@pytest.mark.full
def test_no_file_of_this_machine_holds_a_secret_but_those_of_the_person(marked: Marked) -> None:
    own = {marked.project.root / name for name in (".vault", "printed")}
    places = [marked.home, marked.project.root, CACHE, Path.home() / ".ansible", Path("/dev/shm")]
    words = "\n".join(marked.patterns)
    found = subprocess.run(
        ["grep", "-rlaF", "-f", "-", *map(str, places)], input=words, capture_output=True, text=True, timeout=120
    )
    assert {Path(line) for line in found.stdout.splitlines()} - own == set()


def test_a_marker_is_found_in_every_spelling() -> None:
    token = secrets.token_hex(16)
    marked = Marked.__new__(Marked)
    marked.tokens = {"KEY": token}
    for lead in range(4):
        text = base64.b64encode(f"{'x' * lead}'{token}\n".encode()).decode()
        assert marked.names(text) == {"KEY"}
    for text in (token, shlex.quote(f"' {token}"), json.dumps(f'"{token}'), quote(f"%{token}/")):
        assert marked.names(text) == {"KEY"}
    assert marked.names(secrets.token_hex(16)) == set()
