"""deploy secrets: manages the encrypted secrets beside deploy.yml. Prints names, never values."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click

from homeport.core.errors import ExitCode, HomeportError
from homeport.options.options import Options, as_json, common

EPILOG = """Examples:

  deploy secrets set SECRET_KEY_BASE            (asks for the value without showing it)

  pass show shop/stripe | deploy secrets set STRIPE_KEY

  deploy -d staging secrets edit                (deploy.secrets.staging.yml, in your editor)

  deploy secrets rotate SECRET_KEY_BASE         (sets a new random value; then run deploy env push)

  deploy secrets list

  deploy secrets check
"""


@click.group(epilog=EPILOG)
def command() -> None:
    """Manage the secrets in deploy.secrets.yml, encrypted by Ansible Vault: commit that file.

    With -d DESTINATION values are written to deploy.secrets.DESTINATION.yml, which overrides deploy.secrets.yml. No
    verb prints a value or takes one as an argument. Exit status 2: a file cannot be opened, or has a mistake.
    """


@command.command()
@common
def edit(options: Options) -> None:
    """Edit the secrets in $EDITOR. The plain text is only in memory, and is encrypted when the editor ends."""
    from homeport.config.secret_names import names, without_secrets
    from homeport.secrets import document, editor, files

    loaded = _load(options)
    opened = files.open_own(loaded, os.environ, plain=True)
    before = opened.text or document.new_text(names(loaded.config))
    clean = without_secrets(loaded.config, os.environ)
    after = editor.edit(
        before, opened.path.name, clean, lambda new: _accept(document.read(new, opened.name), opened.name), _edit_again
    )
    if after == before and opened.is_encrypted:
        _say(options, "nothing changed")
        return
    files.save(opened, after)
    _say(options, f"{opened.name} is encrypted{_next(options, 'app')}")


@command.command("set", context_settings={"ignore_unknown_options": True})
@click.argument("name", nargs=-1, type=click.UNPROCESSED)
@common
def set_command(options: Options, name: tuple[str, ...]) -> None:
    """Set one secret. The value is read from standard input, or at a hidden prompt.

    A newline at the end of standard input is not part of the value.
    """
    from homeport.secrets import document, files
    from homeport.secrets.listing import user

    secret, loaded = _name(name), _load(options)
    value = _read_value(secret)
    opened = files.open_own(loaded, os.environ)
    _learn(secret, value)
    files.save(opened, document.put(_checked_text(opened), secret, value))
    _say(options, f"{secret} is set in {opened.name}{_next(options, user(loaded, secret))}")
    _warn_about(loaded, secret)


@command.command()
@click.argument("name", nargs=-1, required=True)
@common
def unset(options: Options, name: tuple[str, ...]) -> None:
    """Remove secrets from the file. The host keeps its values."""
    from homeport.secrets import document, files

    opened = files.open_own(_load(options), os.environ)
    new, known = _checked_text(opened), opened.values
    if missing := [each for each in name if each not in known]:
        fix = "deploy secrets list"
        raise HomeportError(f"the file has no {', '.join(missing)}", opened.name, fix, ExitCode.USAGE)
    for each in name:
        new = document.drop(new, each)
    files.save(opened, new)
    _say(options, f"{', '.join(name)} {'is' if len(name) == 1 else 'are'} no longer in {opened.name}")


@command.command("list")
@as_json
@common
def list_command(options: Options, as_json: bool) -> None:
    """List the secrets: the name, the user and the source of each value. Runs no command of env.secret."""
    from homeport.secrets.listing import rows, table

    listed = rows(_load(options), os.environ)
    if as_json:
        print(json.dumps(listed))
    elif listed:
        print("\n".join(table(listed)))
    else:
        _say(options, "no secrets; add names to env.secret in deploy.yml, then run deploy secrets set NAME")


@command.command()
@click.argument("name", required=False)
@click.option("--vault", is_flag=True, help="Encrypt the files with a new vault password instead.")
@common
def rotate(options: Options, name: str | None, vault: bool) -> None:
    """Give a secret a new random value, or the vault a new password.

    A secret that another system issues or knows, such as an S3 key or a database password, cannot be rotated here.
    """
    if vault == bool(name):
        raise click.UsageError("name a secret, or say --vault")
    loaded = _load(options)
    text = _rotate_vault(loaded) if vault else _rotate(loaded, str(name))
    _say(options, text + ("" if vault else _next(options, "app")))


@command.command()
@as_json
@common
def check(options: Options, as_json: bool) -> None:
    """Compare the variables that config/runtime.exs reads with those that are set.

    Exit status 2 for a required variable that nothing sets; a push refuses that, too. A variable that is set but not
    read, and a secret whose value only the host may have, are warnings.
    """
    from homeport.secrets.runtime_check import all_findings

    findings = all_findings(_load(options), os.environ)
    if as_json:
        print(json.dumps([each.as_dict() for each in findings]))
    elif findings:
        print("\n".join(map(str, findings)))
    else:
        _say(options, "every variable that config/runtime.exs reads is set, and every variable that is set is read")
    if any(each.level == "error" for each in findings):
        sys.exit(ExitCode.USAGE)


def _load(options: Options) -> Any:
    from homeport.config.layers import load

    return load(options.config, options.destination)


def _say(options: Options, text: str) -> None:
    if not options.quiet:
        click.echo(text, err=True)


def _next(options: Options, user: str | None) -> str:
    """The command that takes a new value to where it is used."""
    verbs = {"certificate": "certs push", "backup": "provision", "notify": "provision"}
    destination = f"-d {options.destination} " if options.destination else ""
    to = "the host" if user in verbs else "the app"
    return f"; commit it, and give it to {to}: deploy {destination}{verbs.get(user or '', 'env push')}"


def _name(arguments: tuple[str, ...]) -> str:
    """The one name among the arguments. A value beside it is refused, and not repeated in the error."""
    from homeport.secrets import document

    name, equals, _ = arguments[0].partition("=") if arguments else ("", "", "")
    if not arguments:
        raise click.UsageError("which secret? deploy secrets set NAME")
    if len(arguments) > 1 or equals:
        what = "a value cannot be an argument: other users of this machine and the shell's history could show it"
        fix = "run deploy secrets set NAME, which asks for the value; replace a value that was typed as an argument"
        raise HomeportError(what, "deploy secrets set", fix, ExitCode.USAGE)
    if why := document.name_mistake(name):
        raise HomeportError(f"the name {why}", "deploy secrets set", "deploy secrets set NAME", ExitCode.USAGE)
    return name


def _read_value(name: str) -> str:
    """The value, from standard input or a hidden prompt. Raises HomeportError for one that cannot be a secret."""
    from homeport.secrets.commands import without_last_newline
    from homeport.secrets.resolve import value_mistake

    if sys.stdin.isatty():
        value = str(click.prompt(f"{name} (not shown)", hide_input=True, default="", show_default=False, err=True))
    else:
        value = without_last_newline(sys.stdin.buffer.read().decode("utf-8", "surrogateescape"))
    if mistake := value_mistake(value):
        raise HomeportError(f"the value of {name} {mistake}", "standard input", "give another value", ExitCode.USAGE)
    return value


def _learn(name: str, value: str) -> None:
    from pydantic import SecretStr

    from homeport.core import redact

    redact.learn({name: SecretStr(value)})


def _checked_text(opened: Any) -> str:
    """The text of an opened file. Raises HomeportError if the file has a mistake."""
    _ = opened.values
    return str(opened.text)


def _accept(values: dict[str, str], file: str) -> None:
    """Raises HomeportError (usage) for a value that cannot be a secret."""
    from homeport.secrets.resolve import value_mistake

    for name, value in values.items():
        if mistake := value_mistake(value):
            raise HomeportError(f"the value of {name} {mistake}", file, "deploy secrets edit", ExitCode.USAGE)


def _edit_again(error: HomeportError) -> bool:
    if not sys.stdin.isatty():
        return False
    click.echo("\n".join(error.lines()[:2]), err=True)
    return click.confirm("edit it again? otherwise nothing changes", default=True, err=True)


def _warn_about(loaded: Any, name: str) -> None:
    from homeport.config.secret_names import names

    if name not in names(loaded.config):
        click.echo(f"warning: env.secret does not name {name}: the app does not get it", err=True)
    if name in os.environ:
        click.echo(f"warning: {name} is set in the environment of deploy, too, which overrides the file", err=True)


def _rotate(loaded: Any, name: str) -> str:
    from homeport.secrets import rotation

    file = rotation.rotate(loaded, name, os.environ)
    return f"{name} has a new value in {file}; data signed or encrypted with the old value is no longer valid"


def _rotate_vault(loaded: Any) -> str:
    from homeport.secrets import rotation

    begun = rotation.begin(loaded, os.environ)
    files = rotation.finish(begun, begun.pending or _new_password())
    return f"{', '.join(files)}: encrypted with the new password. {rotation.next_steps(begun)}"


def _new_password() -> str:
    from homeport.secrets.password import length_mistake

    if sys.stdin.isatty():
        new = str(click.prompt("new vault password (not shown)", hide_input=True, confirmation_prompt=True, err=True))
    else:
        new = sys.stdin.read()
    if mistake := length_mistake(new):
        fix = "use the output of: openssl rand -base64 32"
        raise HomeportError(f"the new password {mistake}", "standard input", fix, ExitCode.USAGE)
    return new.strip()
