"""Where a secret's value comes from: the environment, a command, the encrypted files; and where the password does."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from secretsworld import PASSWORD, Project

from homeport.config.secret_names import scrub
from homeport.core import redact
from homeport.core.errors import HomeportError
from homeport.secrets import files, password, resolve
from homeport.secrets.resolve import collect

SEALED = 'SECRET_KEY_BASE: "of the file"\nSTRIPE_KEY: "also of the file"\n'


def revealed(project: Project, environ: Mapping[str, str], destination: str | None = None) -> dict[str, str | None]:
    found = collect(project.load(destination), {"PATH": os.environ["PATH"], **environ})
    return {name: resolve.reveal(value) for name, value in found.items()}


def refused(project: Project, environ: Mapping[str, str] | None = None) -> HomeportError:
    with pytest.raises(HomeportError) as caught:
        revealed(project, environ or {})
    assert caught.value.code == 2
    return caught.value


# values


def test_the_environment_counts_before_a_command_and_that_before_the_file(shop: Project) -> None:
    shop.configure(
        "env: {secret: [A_KEY, B_KEY, C_KEY, D_KEY]}\n"
        "secrets: {password_file: .vault, commands: {A_KEY: echo of-a-command, B_KEY: echo of-a-command}}\n"
    )
    shop.seal("A_KEY: of-the-file\nB_KEY: of-the-file\nC_KEY: of-the-file\n")

    assert revealed(shop, {"A_KEY": "of-the-environment"}) == {
        "A_KEY": "of-the-environment",
        "B_KEY": "of-a-command",
        "C_KEY": "of-the-file",
        "D_KEY": None,
    }


def test_the_destinations_file_counts_before_the_one_for_all(shop: Project) -> None:
    shop.write("deploy.staging.yml", "drain_timeout: 1s\nhost: b.test\n")
    shop.seal(SEALED)
    shop.seal("STRIPE_KEY: of staging\n", "deploy.secrets.staging.yml")

    assert revealed(shop, {}) == {"SECRET_KEY_BASE": "of the file", "STRIPE_KEY": "also of the file"}
    assert revealed(shop, {}, "staging") == {"SECRET_KEY_BASE": "of the file", "STRIPE_KEY": "of staging"}


def test_the_keys_of_the_backup_come_from_the_file_as_well(shop: Project) -> None:
    shop.configure("secrets: {password_file: .vault}\ndatabase: {engine: sqlite}\nbackup: {bucket: shop-backups}\n")
    shop.seal("BACKUP_ACCESS_KEY_ID: an-access-key\nBACKUP_SECRET_ACCESS_KEY: a-secret-key\n")

    assert revealed(shop, {}) == {"BACKUP_ACCESS_KEY_ID": "an-access-key", "BACKUP_SECRET_ACCESS_KEY": "a-secret-key"}


def test_where_everything_is_given_no_password_is_asked_for(shop: Project) -> None:
    shop.seal(SEALED)
    (shop.root / ".vault").unlink()

    given = {"SECRET_KEY_BASE": "given", "STRIPE_KEY": "given"}
    assert revealed(shop, given) == given


def test_without_a_file_no_password_is_asked_for(project: Project) -> None:
    assert revealed(project.configure("env: {secret: [A_KEY]}\n"), {}) == {"A_KEY": None}


def test_a_value_of_the_file_that_cannot_be_kept_secret_is_refused_with_its_place(shop: Project) -> None:
    shop.seal("STRIPE_KEY: abc\n")

    error = refused(shop)
    assert (error.where, error.fix) == ("deploy.secrets.yml", "deploy secrets set STRIPE_KEY")


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("no-such-program-anywhere", "the command for A_KEY cannot be run: no such file or directory"),
        ("false", "the command for A_KEY ended with status 1"),
        ("true", "the command for A_KEY prints nothing"),
        (r"printf '\377\376abcd'", "the command for A_KEY prints text that is not UTF-8"),
    ],
)
def test_a_command_that_gives_no_value_is_refused_with_its_line(project: Project, command: str, what: str) -> None:
    project.configure(f"env: {{secret: [A_KEY]}}\nsecrets: {{commands: {{A_KEY: {json.dumps(command)}}}}}\n")

    error = refused(project)
    assert (error.what, error.where) == (what, "deploy.yml:5 secrets.commands.A_KEY")


def test_a_command_gets_no_secret_and_no_shell(project: Project) -> None:
    project.write("show.py", "import json, os, sys; print(json.dumps([sys.argv[1:], sorted(os.environ)]))")
    project.configure(
        "env: {secret: [A_KEY, B_KEY]}\n"
        f"secrets: {{commands: {{A_KEY: '{sys.executable} show.py \"one two\" $HOME;id'}}}}\n"
    )

    printed = revealed(project, {"B_KEY": "hidden", "HOMEPORT_VAULT_PASSWORD": "hidden", "OTHER": "x"})["A_KEY"]

    assert printed is not None
    assert printed.startswith('[["one two", "$HOME;id"]')
    assert "OTHER" in printed
    assert not {"B_KEY", "HOMEPORT_VAULT_PASSWORD"} & set(printed.split('"'))


@pytest.mark.parametrize(
    ("more", "key", "what"),
    [
        ("commands: {B_KEY: id}", "commands.B_KEY", "is not in env.secret: name it there, or leave the command out"),
        ('commands: {A_KEY: "it\'s"}', "commands.A_KEY", "has a quotation that does not end"),
        ("commands: {A_KEY: 7}", "commands.A_KEY", "must be a command such as op read op://shop/production/token"),
        ("{password_file: a, keyring: b}", "keyring", "is one source too many: password_file is set as well"),
        ("password_env: A_KEY", "password_env", "A_KEY is one of the secrets that it opens: use another name"),
        (
            "password_env: 'hunter2 and more'",
            "password_env",
            "must be the name of a variable, such as HOMEPORT_VAULT_PASSWORD; "
            "the password itself is never written here",
        ),
    ],
)
def test_mistakes_in_secrets_are_told_by_line(project: Project, more: str, key: str, what: str) -> None:
    told = more if more.startswith("{") else f"{{{more}}}"

    error = refused(project.configure(f"env: {{secret: [A_KEY]}}\nsecrets: {told}\n"))

    assert (error.where, error.what) == ("deploy.yml:5", f"secrets.{key}: {what}")


def test_no_destination_is_called_like_the_file(shop: Project) -> None:
    with pytest.raises(HomeportError, match="'secrets' cannot be a destination"):
        shop.load("secrets")


# the password


def test_the_variable_counts_before_the_file_and_is_taken_out_of_the_environment(shop: Project) -> None:
    shop.seal(SEALED, password="that of the variable")
    environ = {"HOMEPORT_VAULT_PASSWORD": "that of the variable\n"}

    assert revealed(shop, environ)["STRIPE_KEY"] == "also of the file"
    scrub(shop.load().config, environ)
    assert environ == {}


def test_a_command_tells_the_password(shop: Project) -> None:
    shop.configure("env: {secret: [STRIPE_KEY]}\nsecrets: {password_command: cat .vault}\n").seal(SEALED)

    assert revealed(shop, {}) == {"STRIPE_KEY": "also of the file"}


@pytest.mark.parametrize(
    ("text", "mode", "what"),
    [
        (PASSWORD, 0o644, "others may read the vault password"),
        (PASSWORD, 0o620, "others may read the vault password"),
        ("", 0o600, "the vault password file is empty"),
        (None, 0o600, "there is no vault password file"),
    ],
)
def test_a_password_file_that_does_not_do_is_refused(shop: Project, text: str | None, mode: int, what: str) -> None:
    shop.seal(SEALED)
    path = shop.password(text or "")
    path.chmod(mode)
    if text is None:
        path.unlink()

    error = refused(shop)

    assert (error.what, error.where) == (what, str(path))
    assert error.fix
    assert PASSWORD not in "\n".join(error.lines())


def test_without_any_password_it_is_told_where_one_can_be_named(project: Project) -> None:
    project.configure("env: {secret: [A_KEY]}\n").seal("A_KEY: value\n")

    error = refused(project)

    assert error.what == "there is no vault password"
    assert error.fix == (
        "export HOMEPORT_VAULT_PASSWORD, or set secrets.password_file, .password_command or .keyring in deploy.yml"
    )


def test_without_the_keyrings_library_it_is_told_how_to_get_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.configure("env: {secret: [A_KEY]}\nsecrets: {keyring: shop}\n").seal("A_KEY: value\n")
    monkeypatch.setitem(sys.modules, "keyring", None)

    error = refused(project)

    assert error.what == "the Python library keyring is not installed"
    assert error.where == "deploy.yml:5 secrets.keyring"
    assert error.fix.startswith("pipx inject homeport keyring, ")


@pytest.mark.filterwarnings("ignore")
def test_the_keyring_tells_the_password_and_keeps_a_new_one(project: Project) -> None:
    keyring = pytest.importorskip("keyring", reason="the optional library is not installed")
    entries: dict[tuple[str, str], str] = {}

    class InMemory(keyring.backend.KeyringBackend):  # type: ignore[misc]
        priority = 1

        def get_password(self, service: str, username: str) -> str | None:
            return entries.get((service, username))

        def set_password(self, service: str, username: str, password: str) -> None:
            entries[service, username] = password

    keyring.set_keyring(InMemory())
    loaded = project.configure("env: {secret: [A_KEY]}\nsecrets: {keyring: shop}\n").load()
    project.seal("A_KEY: value\n")

    assert refused(project).fix == "keyring set homeport shop"
    password.replace(loaded, password.source(loaded, {}), PASSWORD)
    assert revealed(project, {}) == {"A_KEY": "value"}
    assert entries == {("homeport", "shop"): PASSWORD}


# the file


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"STRIPE_KEY: hunter2-and-more\n", "the file is not encrypted: whoever has the repository can read it"),
        (b"", "the file is not encrypted: whoever has the repository can read it"),
        (b"$ANSIBLE_VAULT;1.1;AES256\n3132\n", "the file is damaged: it is not in Ansible Vault's format"),
        (b"$ANSIBLE_VAULT;\n<<<<<<< HEAD\n", "the file has a merge conflict of git"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_and_stays(shop: Project, data: bytes, what: str) -> None:
    path = shop.root / "deploy.secrets.yml"
    path.write_bytes(data)

    error = refused(shop)

    assert (error.what, error.where) == (what, "deploy.secrets.yml")
    assert "hunter2" not in "\n".join(error.lines())
    assert path.read_bytes() == data


def test_a_wrong_password_is_told_as_such(shop: Project) -> None:
    shop.seal(SEALED, password="another password")

    error = refused(shop)

    assert (error.what, error.where) == ("the vault password does not open the file", "deploy.secrets.yml")
    assert "HOMEPORT_VAULT_PASSWORD" in error.fix


def test_a_file_that_somebody_changed_meanwhile_is_not_overwritten(shop: Project) -> None:
    shop.seal(SEALED)
    opened = files.open_own(shop.load(), {})
    theirs = shop.seal("STRIPE_KEY: theirs\n").read_bytes()

    with pytest.raises(HomeportError, match="somebody else has changed the file"):
        files.save(opened, "STRIPE_KEY: mine\n")

    assert (shop.root / "deploy.secrets.yml").read_bytes() == theirs


def test_a_file_is_written_whole_for_its_owner_alone_and_through_a_link(shop: Project, tmp_path: Path) -> None:
    kept = tmp_path / "elsewhere.yml"
    kept.write_bytes(shop.seal(SEALED).read_bytes())
    link = shop.root / "deploy.secrets.yml"
    link.unlink()
    link.symlink_to(kept)

    files.save(files.open_own(shop.load(), {}), "STRIPE_KEY: new value\n")

    assert link.is_symlink()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert shop.unsealed("elsewhere.yml") == "STRIPE_KEY: new value\n"


# what is known is hidden


def test_every_value_met_is_hidden_from_every_output(shop: Project) -> None:
    shop.seal("STRIPE_KEY: of the file, hidden\nUNASKED: unasked-and-hidden\n")
    shop.configure(
        "env: {secret: [STRIPE_KEY, B_KEY, C_KEY]}\n"
        "secrets: {password_file: .vault, commands: {B_KEY: echo printed-and-hidden}}\n"
    )
    revealed(shop, {"C_KEY": "given-and-hidden"})

    told = f"of the file, hidden; unasked-and-hidden; printed-and-hidden; given-and-hidden; {PASSWORD}"

    assert redact.redactor()(told) == "[STRIPE_KEY]; [UNASKED]; [B_KEY]; [C_KEY]; [vault password]"
