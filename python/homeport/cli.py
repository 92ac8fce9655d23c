"""The `deploy` command: names the verbs and loads the one that is called, so that help and status answer at once."""

from __future__ import annotations

import importlib
import sys

import click
from click.shell_completion import CompletionItem, add_completion_class

from homeport import __version__
from homeport.core.errors import ExitCode, HomeportError
from homeport.options import completion

# verb -> what `deploy --help` says of it; the verb itself is homeport.verbs.<verb>
VERBS = {
    "init": "Write a deploy.yml from what is found in the project.",
    "config": "Show the effective configuration, and where each value comes from.",
    "setup": "Pin the host's key, provision it, and push for the first time.",
    "secrets": "Keep the values of secrets, encrypted, beside deploy.yml.",
    "provision": "Make the host what the roles say; a second run changes nothing.",
    "push": "Build a release, send what differs, and make it live.",
    "env": "Give the app changed variables or secrets, without a build.",
    "rollback": "Make an earlier release live again, with its data if need be.",
    "restore": "Bring back the data of another time, in place or into a file.",
    "releases": "List the releases on the host.",
    "status": "Say what is live and whether it is healthy.",
    "apps": "List every app of the host with its state.",
    "certs": "List the certificates, or have them renewed now.",
    "maintenance": "Show visitors a page in the place of the app, for a while.",
    "doctor": "Look at everything that commonly goes wrong, and say what mends it.",
    "attach": "Follow the running transition, or show the last one.",
    "backup": "Say whether the backup is good, run it, drill it, take it over.",
    "db": "Open a console on the database or a way to it, take a copy, put one in its place.",
    "notify": "List who is told what happens to the app, or send a test.",
    "accessory": "List, restart or take away the services beside the app: Redis, Memcached and others.",
    "lock": "Keep others from deploying, for a while and a reason.",
    "audit": "Say who did what when.",
    "logs": "Show what the app, and all that serves it, writes.",
    "cron": "List the jobs of deploy.yml, run one, or let them rest.",
    "console": "Open IEx in the live instance.",
    "rpc": "Evaluate an expression in the live instance.",
    "eval": "Evaluate an expression beside it, in a system of its own.",
    "run": "Run a program once beside the live release.",
    "exec": "Run a program where the live instance is.",
    "ssh": "Log in on the host.",
    "tunnel": "Open a way to a port of the host's own, or to the live instance.",
    "observer": "Look into the live instance with a local Observer.",
    "open": "Open the app in a browser.",
    "remove": "Take the app off its host, and leave the others untouched.",
    "completion": "Print what makes the Tab key of bash, zsh or fish know all of this.",
    "docs": "Print the documentation, without a network.",
    "sandbox": "Rehearse on a host of your own, on this machine.",
}


class Verbs(click.Group):
    """A group whose verbs are imported only when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"homeport.verbs.{cmd_name}")
        command: click.Command = module.command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = [CompletionItem(name, help=says) for name, says in VERBS.items() if name.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"there is no verb '{args[0]}'.{_meant(args[0])}")
        return super().resolve_command(ctx, args)


def _meant(word: str) -> str:
    import difflib

    near = difflib.get_close_matches({"deploy": "push"}.get(word, word), VERBS, n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="\n\n  ".join(
        ["Examples:", "deploy init", "deploy setup", "deploy push", "deploy -d sandbox push", "deploy rollback"]
    ),
)
@click.option("-c", "--config", type=click.Path(dir_okay=False), help="The deploy.yml to use; found upwards otherwise.")
@click.option(
    "-d",
    "--destination",
    shell_complete=completion.destinations,
    help="Merge deploy.DESTINATION.yml over it; 'sandbox' is built in.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print results and errors only.")
@click.option("-v", "--verbose", is_flag=True, help="Print what builds and playbooks say.")
@click.version_option(__version__, prog_name="deploy", message="%(prog)s (Homeport) %(version)s")
@click.pass_context
def deploy(ctx: click.Context, config: str | None, destination: str | None, quiet: bool, verbose: bool) -> None:
    """Deploy a Phoenix app to one server without downtime, and back its database up to S3 with tested restores."""
    from homeport.options.options import Options, path_or_none

    ctx.obj = Options(path_or_none(config), destination, quiet, verbose)


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit with the status that ExitCode gives."""
    add_completion_class(completion.Bash)
    try:
        deploy.main(args=argv, prog_name=completion.PROGRAM, standalone_mode=False)
    except HomeportError as error:
        sys.exit(_report(error))
    except click.ClickException as error:
        error.show()
        sys.exit(ExitCode.USAGE)
    except click.exceptions.Exit as leave:
        sys.exit(leave.exit_code)
    except (click.Abort, KeyboardInterrupt):
        print("\ninterrupted", file=sys.stderr)
        sys.exit(ExitCode.INTERRUPTED)
    except Exception:
        # a mistake of ours; its message may hold anything
        import traceback

        print(_redacted(traceback.format_exc()), end="", file=sys.stderr)
        sys.exit(ExitCode.FAILED)


def _redacted(text: str) -> str:
    """The text without the value of any secret that this process has met; where it met none, nothing is imported."""
    redact = sys.modules.get("homeport.core.redact")
    return str(redact.known()(text)) if redact else text


def _report(error: HomeportError) -> int:
    error = HomeportError(_redacted(error.what), _redacted(error.where), _redacted(error.fix), error.code)
    # --json is looked for in the raw arguments: the error may come from before they were parsed
    if "--json" in sys.argv:
        import json

        print(json.dumps({"error": error.as_dict()}))
    print("\n".join(["error: " + error.lines()[0], *error.lines()[1:]]), file=sys.stderr)
    return int(error.code)
