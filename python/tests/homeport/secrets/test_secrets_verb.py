"""`deploy secrets`, run as a person runs it: what it does, and that no output ever holds a value."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from secretsworld import DEPLOY, PASSWORD, Project

HIDDEN = "hunter2-and-more"
Editor = Callable[[str], dict[str, str]]


def left_behind() -> list[Path]:
    return list(Path("/dev/shm").glob(f"homeport-run-{os.getpid()}-*"))


# set


def test_a_value_is_set_from_standard_input_without_its_last_newline(shop: Project) -> None:
    done = shop.deploy("secrets", "set", "STRIPE_KEY", given=f"{HIDDEN}\n")

    assert (done.returncode, done.stdout) == (0, "")
    told = "STRIPE_KEY is set in deploy.secrets.yml; commit it, and give it to the app: deploy env push\n"
    assert done.stderr == told
    assert shop.unsealed() == f'STRIPE_KEY: "{HIDDEN}"\n'
    assert (shop.root / "deploy.secrets.yml").stat().st_mode & 0o777 == 0o600


def test_what_is_set_says_the_command_that_brings_it_to_where_it_is_used(shop: Project) -> None:
    shop.write("deploy.yml", (shop.root / "deploy.yml").read_text() + "notify:\n  - url: SLACK_URL\n")

    done = shop.deploy("secrets", "set", "SLACK_URL", given="https://hooks.example.com/T0/secret")

    assert done.stderr.endswith("; commit it, and give it to the host: deploy provision\n")


def test_a_destinations_value_goes_to_its_own_file(shop: Project) -> None:
    shop.write("deploy.staging.yml", "drain_timeout: 1s\nhost: b.test\n")

    done = shop.deploy("-d", "staging", "secrets", "set", "STRIPE_KEY", given=HIDDEN)

    assert done.stderr.endswith(
        "deploy.secrets.staging.yml; commit it, and give it to the app: deploy -d staging env push\n"
    )
    assert shop.unsealed("deploy.secrets.staging.yml") == f'STRIPE_KEY: "{HIDDEN}"\n'
    assert not (shop.root / "deploy.secrets.yml").exists()


@pytest.mark.parametrize(
    "words", [["STRIPE_KEY", HIDDEN], [f"STRIPE_KEY={HIDDEN}"], ["STRIPE_KEY", f"--value={HIDDEN}"]], ids=str
)
def test_a_value_as_an_argument_is_refused_and_not_repeated(shop: Project, words: list[str]) -> None:
    done = shop.deploy("secrets", "set", *words)

    assert done.returncode == 2
    assert done.stderr.startswith("error: a value cannot be an argument")
    assert "hunter2" not in done.printed
    assert not (shop.root / "deploy.secrets.yml").exists()


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("STRIPE_KEY", "", "the value of STRIPE_KEY is empty"),
        ("STRIPE_KEY", "abc", "the value of STRIPE_KEY has fewer than 4 characters"),
        ("STRIPE_KEY", "abc\x07def", "the value of STRIPE_KEY holds a control character"),
        ("PORT", HIDDEN, "the name is refused: Homeport gives every instance a port of its own"),
        ("lower", HIDDEN, "the name must be a name in capitals"),
    ],
)
def test_what_cannot_be_set_is_refused_and_nothing_changes(shop: Project, name: str, value: str, what: str) -> None:
    before = shop.seal("SECRET_KEY_BASE: as it was\n").read_bytes()

    done = shop.deploy("secrets", "set", name, given=value)

    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {what}")
    assert (shop.root / "deploy.secrets.yml").read_bytes() == before


def test_one_that_the_app_would_not_get_is_set_with_a_warning(shop: Project) -> None:
    done = shop.deploy("secrets", "set", "OTHER", given=HIDDEN)

    assert done.returncode == 0
    assert "warning: env.secret does not name OTHER: the app does not get it" in done.stderr


def test_at_a_terminal_the_value_is_asked_for_and_not_shown(shop: Project) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.execv(str(DEPLOY), [str(DEPLOY), "secrets", "set", "STRIPE_KEY"])
    shown = b""
    while b"not shown" not in shown:
        shown += os.read(terminal, 1000)
    os.write(terminal, f"{HIDDEN}\n".encode())
    while chunk := _rest(terminal):
        shown += chunk

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert b"STRIPE_KEY is set" in shown
    assert HIDDEN.encode() not in shown
    assert shop.unsealed() == f'STRIPE_KEY: "{HIDDEN}"\n'


def _rest(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1000)
    except OSError:  # Linux, when the other end is closed
        return b""


# unset, list


def test_names_are_taken_out_all_or_none(shop: Project) -> None:
    shop.seal("# kept\nA_KEY: value\nB_KEY: value\nC_KEY: value\n")

    refused = shop.deploy("secrets", "unset", "A_KEY", "NOPE")
    assert (refused.returncode, refused.stderr.splitlines()[0]) == (2, "error: the file has no NOPE")
    assert "A_KEY" in shop.unsealed()

    assert shop.deploy("secrets", "unset", "A_KEY", "C_KEY").returncode == 0
    assert shop.unsealed() == "# kept\nB_KEY: value\n"


def test_the_list_says_who_uses_a_secret_and_where_its_value_comes_from(shop: Project) -> None:
    shop.configure(
        "env: {secret: [A_KEY, B_KEY, C_KEY, D_KEY]}\n"
        f"secrets: {{password_file: .vault, commands: {{B_KEY: echo {HIDDEN}}}}}\n"
        "database: {engine: sqlite}\nbackup: {bucket: shop-backups}\n"
    )
    shop.seal(f"A_KEY: {HIDDEN}\nB_KEY: {HIDDEN}\nC_KEY: {HIDDEN}\nUNASKED: {HIDDEN}\nBACKUP_ACCESS_KEY_ID: {HIDDEN}\n")

    done = shop.deploy("secrets", "list", environ={"A_KEY": HIDDEN})
    rows = json.loads(shop.deploy("secrets", "list", "--json", environ={"A_KEY": HIDDEN}).stdout)

    assert [(row["name"], row["for"], row["from"]) for row in rows] == [
        ("A_KEY", "app", "environment"),
        ("B_KEY", "app", "command"),
        ("C_KEY", "app", "deploy.secrets.yml"),
        ("D_KEY", "app", None),
        ("BACKUP_ACCESS_KEY_ID", "backup", "deploy.secrets.yml"),
        ("BACKUP_SECRET_ACCESS_KEY", "backup", None),
        ("UNASKED", None, "deploy.secrets.yml"),
    ]
    assert [line.split()[0] for line in done.stdout.splitlines()] == [row["name"] for row in rows]
    assert HIDDEN not in done.printed


# edit


def test_the_editor_gets_the_text_and_what_it_leaves_is_encrypted(shop: Project, editor: Editor) -> None:
    shop.seal("# a comment\nA_KEY: before\n")

    done = shop.deploy("secrets", "edit", environ=editor('sed -i s/before/after-it/ "$1"; stat -c %a "$1" > seen'))

    assert done.returncode == 0, done.stderr
    assert shop.unsealed() == "# a comment\nA_KEY: after-it\n"
    assert (shop.root / "seen").read_text() == "600\n"


def test_without_a_change_the_file_stays_as_it_is(shop: Project, editor: Editor) -> None:
    before = shop.seal("A_KEY: value\n").read_bytes()

    assert shop.deploy("secrets", "edit", environ=editor("true")).stderr == "nothing changed\n"
    assert (shop.root / "deploy.secrets.yml").read_bytes() == before


def test_a_file_that_is_not_encrypted_yet_is_encrypted_by_an_edit(shop: Project, editor: Editor) -> None:
    shop.write("deploy.secrets.yml", f"A_KEY: {HIDDEN}\n")

    assert shop.deploy("secrets", "edit", environ=editor("true")).returncode == 0
    assert shop.unsealed() == f"A_KEY: {HIDDEN}\n"


@pytest.mark.parametrize(
    ("script", "status", "what"),
    [
        ("exit 3", 1, "error: the editor ended with status 3, and nothing has changed"),
        ('rm "$1"', 1, "error: the editor left no readable file, and nothing has changed"),
        (f'echo "A_KEY: [{HIDDEN}]" > "$1"', 2, "error: A_KEY: must be text: put it in quotes"),
        ('echo "A_KEY: abc" > "$1"', 2, "error: the value of A_KEY has fewer than 4 characters"),
    ],
)
def test_an_edit_that_went_wrong_changes_nothing_and_leaves_nothing(
    shop: Project, editor: Editor, script: str, status: int, what: str
) -> None:
    before = shop.seal("A_KEY: value\n").read_bytes()

    done = shop.deploy("secrets", "edit", environ=editor(script))

    assert (done.returncode, done.stderr.startswith(what)) == (status, True), done.stderr
    assert HIDDEN not in done.printed
    assert (shop.root / "deploy.secrets.yml").read_bytes() == before
    assert left_behind() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_decrypted_text_is_wiped_when_it_is_interrupted(
    shop: Project, editor: Editor, number: signal.Signals
) -> None:
    before = shop.seal(f"A_KEY: {HIDDEN}\n").read_bytes()
    environ = {**os.environ, **editor('echo "$1" > where; exec sleep 60')}
    with subprocess.Popen(
        [DEPLOY, "secrets", "edit"], cwd=shop.root, env=environ, stderr=subprocess.PIPE, start_new_session=True
    ) as running:
        file = next(_appearing(shop.root / "where"))
        assert file.read_text() == f"A_KEY: {HIDDEN}\n"
        os.killpg(running.pid, number)  # as a terminal does: the editor gets it too

        assert running.wait(20) != 0
    assert not file.parent.exists()
    assert (shop.root / "deploy.secrets.yml").read_bytes() == before


def _appearing(path: Path) -> Iterator[Path]:
    while not (path.exists() and path.read_text().endswith("\n")):
        time.sleep(0.01)
    yield Path(path.read_text().strip())


def test_what_a_killed_edit_left_is_removed_by_the_next(shop: Project, editor: Editor) -> None:
    shop.seal(f"A_KEY: {HIDDEN}\n")
    environ = {**os.environ, **editor('echo "$1" > where; exec sleep 60')}
    with subprocess.Popen(
        [DEPLOY, "secrets", "edit"], cwd=shop.root, env=environ, stderr=subprocess.PIPE, start_new_session=True
    ) as running:
        file = next(_appearing(shop.root / "where"))
        os.killpg(running.pid, signal.SIGKILL)
        running.wait(20)
    assert file.exists()

    assert shop.deploy("secrets", "edit", environ=editor("true")).returncode == 0
    assert not file.parent.exists()


# rotate


def test_a_new_value_is_long_and_random_and_not_printed(shop: Project) -> None:
    shop.seal("STRIPE_KEY: stays\nSECRET_KEY_BASE: before\n")

    done = shop.deploy("secrets", "rotate", "SECRET_KEY_BASE")

    assert done.returncode == 0, done.stderr
    made = re.fullmatch(r'STRIPE_KEY: stays\nSECRET_KEY_BASE: "([\w-]{64})"\n', shop.unsealed())
    assert made
    assert made[1] not in done.printed


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("BACKUP_KEY", "encrypts the backup, which a new key could not decrypt"),
        ("BACKUP_ACCESS_KEY_ID", "is a key of the bucket"),
        ("A_KEY", "comes from a command of secrets.commands, and not from the file"),
        ("OTHER", "is not in env.secret: the app would not get it"),
    ],
)
def test_what_cannot_be_made_here_is_not_rotated(shop: Project, name: str, what: str) -> None:
    shop.configure(
        "env: {secret: [A_KEY]}\nsecrets: {password_file: .vault, commands: {A_KEY: id}}\n"
        "database: {engine: postgres}\nbackup: {bucket: shop-backups, encryption_key: BACKUP_KEY}\n"
    )

    done = shop.deploy("secrets", "rotate", name)

    assert (done.returncode, done.stderr.splitlines()[0]) == (2, f"error: {name} {what}")
    assert not (shop.root / "deploy.secrets.yml").exists()


def test_the_key_of_a_certificate_is_kept_as_it_is_and_made_elsewhere(shop: Project) -> None:
    own = "domains:\n  - {name: shop.test, certificate: own.pem, key: SHOP_KEY}\n"
    shop.write("deploy.yml", f"app: shop\nhost: 198.51.100.7\n{own}secrets: {{password_file: .vault}}\n")
    pem = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\nAgEGCCqGSM49AwEHBG0w\n-----END PRIVATE KEY-----"

    done = shop.deploy("secrets", "set", "SHOP_KEY", given=pem + "\n")
    listed = shop.deploy("secrets", "list", "--json")
    rotated = shop.deploy("secrets", "rotate", "SHOP_KEY")

    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(shop.unsealed()) == {"SHOP_KEY": pem}
    assert json.loads(listed.stdout) == [{"name": "SHOP_KEY", "for": "certificate", "from": "deploy.secrets.yml"}]
    assert (rotated.returncode, "is created together with it" in rotated.stderr) == (2, True)


NEW = "another-horse-battery"


def test_all_files_are_encrypted_anew_and_the_password_file_is_the_new_one(shop: Project) -> None:
    shop.seal("A_KEY: one\n")
    shop.seal("A_KEY: two\n", "deploy.secrets.staging.yml")
    theirs = shop.seal("A_KEY: three\n", "deploy.secrets.other.yml", password="that of others").read_bytes()

    done = shop.deploy("secrets", "rotate", "--vault", given=f"{NEW}\n")

    assert done.returncode == 0, done.stderr
    assert (shop.root / ".vault").read_text() == f"{NEW}\n"
    assert (shop.root / ".vault").stat().st_mode & 0o777 == 0o600
    assert shop.unsealed(password=NEW) == "A_KEY: one\n"
    assert shop.unsealed("deploy.secrets.staging.yml", NEW) == "A_KEY: two\n"
    assert (shop.root / "deploy.secrets.other.yml").read_bytes() == theirs
    assert "deploy.secrets.other.yml has another password, and stays as it is" in done.stderr
    assert not {PASSWORD, NEW} & set(done.printed.split())


def test_a_password_that_can_be_guessed_is_refused(shop: Project) -> None:
    before = shop.seal("A_KEY: one\n").read_bytes()

    done = shop.deploy("secrets", "rotate", "--vault", given="password\n")

    assert done.returncode == 2
    assert (shop.root / "deploy.secrets.yml").read_bytes() == before
    assert (shop.root / ".vault").read_text() == f"{PASSWORD}\n"


def test_a_rotation_that_was_killed_half_way_is_ended_by_the_next(shop: Project) -> None:
    shop.seal("A_KEY: one\n", password=NEW)
    shop.seal("A_KEY: two\n", "deploy.secrets.staging.yml")
    shop.password(NEW, ".vault.next")

    before = shop.deploy("secrets", "list")
    assert (before.returncode, "finish it: deploy secrets rotate --vault" in before.stderr) == (2, True)
    done = shop.deploy("secrets", "rotate", "--vault")

    assert done.returncode == 0, done.stderr
    assert (shop.unsealed(password=NEW), shop.unsealed("deploy.secrets.staging.yml", NEW)) == (
        "A_KEY: one\n",
        "A_KEY: two\n",
    )
    assert not (shop.root / ".vault.next").exists()
    assert shop.deploy("secrets", "list").returncode == 0


def test_a_password_from_elsewhere_is_left_to_the_person(project: Project) -> None:
    project.configure("").seal("A_KEY: one\n")

    done = project.deploy("secrets", "rotate", "--vault", given=NEW, environ={"HOMEPORT_VAULT_PASSWORD": PASSWORD})

    assert done.returncode == 0, done.stderr
    assert "Put it into the variable HOMEPORT_VAULT_PASSWORD" in done.stderr
    assert project.unsealed(password=NEW) == "A_KEY: one\n"


# check


RUNTIME = """
import Config

if config_env() == :prod do
  System.get_env("SECRET_KEY_BASE") || raise "missing"
  System.fetch_env!("PORT")
  System.fetch_env!("DATABASE_PATH")
  {line}
end
"""


def test_what_the_app_cannot_start_without_and_nothing_gives_is_an_error(shop: Project) -> None:
    shop.write("config/runtime.exs", RUNTIME.replace("{line}", 'System.fetch_env!("API_KEY")'))

    done = shop.deploy("secrets", "check", "--json", environ={"SECRET_KEY_BASE": HIDDEN})
    errors = [(each["name"], each["where"]) for each in json.loads(done.stdout) if each["level"] == "error"]

    assert done.returncode == 2
    assert errors == [("DATABASE_PATH", "config/runtime.exs:7"), ("API_KEY", "config/runtime.exs:8")]


def test_a_push_refuses_it_before_anything_is_built_or_sent(shop: Project) -> None:
    shop.write("config/runtime.exs", RUNTIME.replace("{line}", 'System.fetch_env!("API_KEY")'))

    done = shop.deploy("push")

    assert done.returncode == 2
    assert "config/runtime.exs:8 API_KEY: is needed to start, and nothing sets it" in done.stderr
    assert done.stdout == ""


def test_what_is_supplied_or_given_by_homeport_is_no_finding(shop: Project) -> None:
    shop.configure(
        "env: {secret: [SECRET_KEY_BASE], clear: {API_KEY: public}}\nsecrets: {password_file: .vault}\n"
        "database: {engine: sqlite}\nbackup: {enabled: false}\n"
    ).seal(f"SECRET_KEY_BASE: {HIDDEN}\n")
    shop.write("config/runtime.exs", RUNTIME.replace("{line}", 'System.fetch_env!("API_KEY")'))

    done = shop.deploy("secrets", "check")

    assert (done.returncode, done.stdout) == (0, "")
    assert (
        done.stderr == "every variable that config/runtime.exs reads is set, and every variable that is set is read\n"
    )


def test_the_rest_is_told_and_no_error(shop: Project) -> None:
    shop.configure(
        "env: {secret: [SECRET_KEY_BASE, STRIPE_KEY, MAIL_KEY]}\nsecrets: {password_file: .vault}\n"
        "database: {engine: sqlite}\nbackup: {enabled: false}\n"
    ).seal(f"SECRET_KEY_BASE: {HIDDEN}\nUNASKED: {HIDDEN}\n")
    shop.write("config/runtime.exs", RUNTIME.replace("{line}", 'System.get_env("DNS_CLUSTER_QUERY")'))
    shop.write("lib/shop/mail.ex", 'System.get_env("MAIL_KEY")')

    done = shop.deploy("secrets", "check", "--json")

    assert done.returncode == 0, done.stderr
    assert [(each["level"], each["name"], each["where"]) for each in json.loads(done.stdout)] == [
        ("note", "DNS_CLUSTER_QUERY", "config/runtime.exs:8"),
        ("warning", "STRIPE_KEY", "deploy.yml"),
        ("warning", "MAIL_KEY", "deploy.yml"),
        ("warning", "STRIPE_KEY", "deploy.yml:4"),
        ("warning", "UNASKED", "deploy.secrets.yml"),
    ]


def test_a_password_that_git_would_take_is_an_error(shop: Project) -> None:
    subprocess.run(["git", "init", "-q"], cwd=shop.root, check=True)

    assert shop.deploy("secrets", "check").returncode == 2
    assert (
        "secrets.password_file: is in the repository, beside the files that it opens, and git does not ignore it"
        in shop.deploy("push").stderr
    )
    shop.write(".gitignore", ".vault\n")
    assert shop.deploy("secrets", "check").returncode == 0


# what holds of all of them


@pytest.mark.parametrize(
    "words",
    [
        ["list"],
        ["list", "--json"],
        ["check"],
        ["check", "--json"],
        ["set", "A_KEY"],
        ["unset", "A_KEY"],
        ["edit"],
        ["rotate", "STRIPE_KEY"],
        ["rotate", "--vault"],
    ],
    ids=" ".join,
)
def test_no_verb_prints_a_value_or_the_password(shop: Project, editor: Editor, words: list[str]) -> None:
    shop.seal(f"A_KEY: {HIDDEN}-1\nSTRIPE_KEY: {HIDDEN}-2\n")
    made = editor(f'sed -i s/{HIDDEN}-1/{HIDDEN}-3/ "$1"')

    done = shop.deploy("secrets", *words, given=f"{HIDDEN}-of-standard-input\n", environ=made)

    assert done.returncode == 0, done.stderr
    assert "hunter2" not in done.printed
    assert PASSWORD not in done.printed


@pytest.mark.parametrize(
    "words", [["set", "A_KEY"], ["unset", "A_KEY"], ["edit"], ["rotate", "STRIPE_KEY"], ["list"]], ids=" ".join
)
def test_a_wrong_password_ends_every_verb_with_exit_status_2_and_changes_nothing(
    shop: Project, editor: Editor, words: list[str]
) -> None:
    shop.password("not the right one")
    before = shop.seal(f"A_KEY: {HIDDEN}\n").read_bytes()

    done = shop.deploy("secrets", *words, given="some value", environ=editor("true"))

    assert done.returncode == 2
    assert done.stderr.startswith("error: the vault password does not open the file\n  where: deploy.secrets.yml\n")
    assert (shop.root / "deploy.secrets.yml").read_bytes() == before
