"""deploy secrets: values of secrets, encrypted beside deploy.yml. Names are all that is ever printed."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click

from homeport.core.errors import ExitCode, HomeportError
from homeport.options.options import Options, as_json, common

EPILOG = """Examples:

  deploy secrets set SECRET_KEY_BASE            (asks for the value, and does not show it)

  pass show shop/stripe | deploy secrets set STRIPE_KEY

  deploy -d staging secrets edit                (deploy.secrets.staging.yml, in your editor)

  deploy secrets rotate SECRET_KEY_BASE         (a new random value; env push gives it to the app)

  deploy secrets list

  deploy secrets check
"""


@click.group(epilog=EPILOG)
def command() -> None:
    """Keep the values of secrets in deploy.secrets.yml, encrypted by Ansible Vault: commit that file.

    With -d DESTINATION values are written to deploy.secrets.DESTINATION.yml, which counts before the other. No verb
    prints a value, or takes one as an argument. Exit status 2: a file cannot be opened, or something is wrong in it.
    """


@command.command()
@common
def edit(options: Options) -> None:
    """Edit the file in $EDITOR, in memory; it is encrypted again when that ends."""
    from homeport.config.secret_names import names, without_secrets
    from homeport.secrets import document, editor, files

    loaded = _loaded(options)
    opened = files.open_own(loaded, os.environ, plain=True)
    before = opened.text or document.beginning(names(loaded.config))
    clean = without_secrets(loaded.config, os.environ)
    after = editor.edit(
        before, opened.path.name, clean, lambda new: _accept(document.read(new, opened.name), opened.name), _again
    )
    if after == before and opened.encrypted:
        _say(options, "nothing changed")
        return
    files.save(opened, after)
    _say(options, f"{opened.name} is encrypted{_next(options, 'app')}")


@command.command("set", context_settings={"ignore_unknown_options": True})
@click.argument("name", nargs=-1, type=click.UNPROCESSED)
@common
def set_command(options: Options, name: tuple[str, ...]) -> None:
    """Set one secret: its value comes from standard input, or is asked for and not shown.

    The newline at the end of standard input is no part of the value.
    """
    from homeport.secrets import document, files
    from homeport.secrets.listing import user

    wanted, loaded = _name(name), _loaded(options)
    value = _given(wanted)
    opened = files.open_own(loaded, os.environ)
    _learn(wanted, value)
    files.save(opened, document.put(_readable(opened), wanted, value))
    _say(options, f"{wanted} is set in {opened.name}{_next(options, user(loaded, wanted))}")
    _warn_about(loaded, wanted)


@command.command()
@click.argument("name", nargs=-1, required=True)
@common
def unset(options: Options, name: tuple[str, ...]) -> None:
    """Take secrets out of the file. The host keeps what it has."""
    from homeport.secrets import document, files

    opened = files.open_own(_loaded(options), os.environ)
    new, known = _readable(opened), opened.values
    if missing := [each for each in name if each not in known]:
        fix = "deploy secrets list"
        raise HomeportError(f"there is no {', '.join(missing)} in it", opened.name, fix, ExitCode.USAGE)
    for each in name:
        new = document.drop(new, each)
    files.save(opened, new)
    _say(options, f"{', '.join(name)} {'is' if len(name) == 1 else 'are'} no longer in {opened.name}")


@command.command("list")
@as_json
@common
def list_command(options: Options, as_json: bool) -> None:
    """List the names, who uses each, and where its value comes from. No command is run for it."""
    from homeport.secrets.listing import rows, table

    found = rows(_loaded(options), os.environ)
    if as_json:
        print(json.dumps(found))
    elif found:
        print("\n".join(table(found)))
    else:
        _say(options, "there are no secrets: name them in env.secret, then deploy secrets set NAME")


@command.command()
@click.argument("name", required=False)
@click.option("--vault", is_flag=True, help="Encrypt the files under a new password instead.")
@common
def rotate(options: Options, name: str | None, vault: bool) -> None:
    """Give a secret a new random value, or the vault a new password.

    A secret that others know as well cannot be made here: such as a key of S3 or a password of a database.
    """
    if vault == bool(name):
        raise click.UsageError("name a secret, or say --vault")
    loaded = _loaded(options)
    said = _rotate_vault(loaded) if vault else _rotate(loaded, str(name))
    _say(options, said + ("" if vault else _next(options, "app")))


@command.command()
@as_json
@common
def check(options: Options, as_json: bool) -> None:
    """Compare what config/runtime.exs reads with what it is given.

    A push refuses what is an error here.

    Exit status 2 for a variable that the app cannot start without and nothing gives. Names that nobody reads, and those
    whose value the host must have already, are warnings.
    """
    from homeport.secrets.runtime_check import everything

    found = everything(_loaded(options), os.environ)
    if as_json:
        print(json.dumps([each.as_dict() for each in found]))
    elif found:
        print("\n".join(map(str, found)))
    else:
        _say(options, "everything that config/runtime.exs reads is supplied, and everything supplied is read")
    if any(each.level == "error" for each in found):
        sys.exit(ExitCode.USAGE)


def _loaded(options: Options) -> Any:
    from homeport.config.layers import load

    return load(options.config, options.destination)


def _say(options: Options, text: str) -> None:
    if not options.quiet:
        click.echo(text, err=True)


def _next(options: Options, user: str | None) -> str:
    """The command that takes a new value to where it is used."""
    bring = {"certificate": "certs push", "backup": "provision", "notify": "provision"}
    place = f"-d {options.destination} " if options.destination else ""
    to = "the host" if user in bring else "the app"
    return f"; commit it, and give it to {to}: deploy {place}{bring.get(user or '', 'env push')}"


def _name(given: tuple[str, ...]) -> str:
    """The one name. A value beside it is refused, and not repeated: it is in the shell's history by now."""
    from homeport.secrets import document

    name, equals, _ = given[0].partition("=") if given else ("", "", "")
    if not given:
        raise click.UsageError("which secret? deploy secrets set NAME")
    if len(given) > 1 or equals:
        what = "a value is never an argument: others on this machine can read it, and the shell writes it down"
        fix = "deploy secrets set NAME, which asks for it; a value that was typed here should be replaced"
        raise HomeportError(what, "deploy secrets set", fix, ExitCode.USAGE)
    if why := document.no_name(name):
        raise HomeportError(f"the name {why}", "deploy secrets set", "deploy secrets set NAME", ExitCode.USAGE)
    return name


def _given(name: str) -> str:
    """The value, from standard input or a hidden prompt. Raises HomeportError for one that cannot be kept."""
    from homeport.secrets.commands import one_line_less
    from homeport.secrets.resolve import reason

    if sys.stdin.isatty():
        value = str(click.prompt(f"{name} (not shown)", hide_input=True, default="", show_default=False, err=True))
    else:
        value = one_line_less(sys.stdin.buffer.read().decode("utf-8", "surrogateescape"))
    if why := reason(value):
        raise HomeportError(f"the value of {name} {why}", "standard input", "give another", ExitCode.USAGE)
    return value


def _learn(name: str, value: str) -> None:
    from pydantic import SecretStr

    from homeport.core import redact

    redact.learn({name: SecretStr(value)})


def _readable(opened: Any) -> str:
    """The text of an opened file, once it is known to be without mistakes."""
    _ = opened.values
    return str(opened.text)


def _accept(values: dict[str, str], file: str) -> None:
    from homeport.secrets.resolve import reason

    for name, value in values.items():
        if why := reason(value):
            raise HomeportError(f"the value of {name} {why}", file, "deploy secrets edit", ExitCode.USAGE)


def _again(error: HomeportError) -> bool:
    if not sys.stdin.isatty():
        return False
    click.echo("\n".join(error.lines()[:2]), err=True)
    return click.confirm("edit it again? otherwise nothing changes", default=True, err=True)


def _warn_about(loaded: Any, name: str) -> None:
    from homeport.config.secret_names import names

    if name not in names(loaded.config):
        click.echo(f"warning: env.secret does not name {name}: the app does not get it", err=True)
    if name in os.environ:
        click.echo(f"warning: {name} is in the environment of deploy as well, which counts before the file", err=True)


def _rotate(loaded: Any, name: str) -> str:
    from homeport.secrets import rotation

    file = rotation.secret(loaded, name, os.environ)
    return f"{name} has a new value in {file}; what was signed or encrypted with the old one is no longer valid"


def _rotate_vault(loaded: Any) -> str:
    from homeport.secrets import rotation

    begun = rotation.begin(loaded, os.environ)
    changed = rotation.finish(begun, begun.pending or _new_password())
    return f"{', '.join(changed)}: encrypted under the new password. {rotation.what_next(begun)}"


def _new_password() -> str:
    from homeport.secrets.password import too_short

    if sys.stdin.isatty():
        given = str(click.prompt("new vault password (not shown)", hide_input=True, confirmation_prompt=True, err=True))
    else:
        given = sys.stdin.read()
    if why := too_short(given):
        fix = "give one that openssl rand -base64 32 has made"
        raise HomeportError(f"the new password {why}", "standard input", fix, ExitCode.USAGE)
    return given.strip()
