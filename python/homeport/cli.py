"""The `deploy` command: lists the verbs and imports only the one that is called, to keep start-up short."""

from __future__ import annotations

import importlib
import sys

import click
from click.shell_completion import CompletionItem, add_completion_class

from homeport import __version__
from homeport.core.errors import ExitCode, HomeportError
from homeport.options import completion

# verb -> its line in `deploy --help`; the verb itself is homeport.verbs.<verb>
VERBS = {
    "init": "Write a deploy.yml for the project.",
    "config": "Show the effective configuration and where each value comes from.",
    "setup": "Pin the host's SSH key, provision the host, and push for the first time.",
    "secrets": "Manage the encrypted secrets beside deploy.yml.",
    "provision": "Configure the host by the Ansible roles; a second run changes nothing.",
    "push": "Build a release, upload what changed, and make it live.",
    "env": "Give the app changed variables or secrets, without a build.",
    "rollback": "Make an earlier release live again, with its data if asked.",
    "restore": "Restore the data of an earlier time, in place or into a file.",
    "releases": "List the releases on the host.",
    "status": "Show what is live and whether it is healthy.",
    "apps": "List the apps on the host and their state.",
    "certs": "List the certificates, renew them now, or upload your own.",
    "maintenance": "Show visitors a maintenance page instead of the app.",
    "doctor": "Check for common faults, and print the fix of each.",
    "attach": "Follow the running transition, or show the last one.",
    "backup": "Check, run, drill or take over the backup.",
    "db": "Open a console or tunnel to the database; dump, load or upgrade it.",
    "notify": "List the receivers of notifications, or send a test.",
    "accessory": "List, restart or remove the services beside the app: Redis, Memcached and others.",
    "lock": "Lock the app, so that nobody else can deploy it.",
    "audit": "Show who changed what, and when.",
    "logs": "Show the logs of the app, the edge, the database, the backup and the jobs.",
    "cron": "List, run, suspend or resume the scheduled jobs.",
    "console": "Open IEx in the live instance.",
    "rpc": "Evaluate an expression in the live instance.",
    "eval": "Evaluate an expression in a separate VM, beside the live instance.",
    "run": "Run a program once, with the files and environment of the live release.",
    "exec": "Run a program beside the live instance, with its private /tmp.",
    "ssh": "Log in to the host.",
    "tunnel": "Forward a local port to a port of the host, or to the live instance.",
    "observer": "Connect a local Observer to the live instance.",
    "open": "Open the app in a browser.",
    "remove": "Remove the app from its host; other apps there stay untouched.",
    "completion": "Print the shell completion for bash, zsh or fish.",
    "docs": "Print the documentation, offline.",
    "sandbox": "Run a local host to rehearse on.",
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
        verbs = [CompletionItem(name, help=line) for name, line in VERBS.items() if name.startswith(incomplete)]
        return verbs + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"there is no verb '{args[0]}'.{_suggestion(args[0])}")
        return super().resolve_command(ctx, args)


def _suggestion(word: str) -> str:
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
@click.option(
    "-c", "--config", type=click.Path(dir_okay=False), help="The deploy.yml to use; default: the nearest one upwards."
)
@click.option(
    "-d",
    "--destination",
    shell_complete=completion.destinations,
    help="Merge deploy.DESTINATION.yml over deploy.yml; 'sandbox' is built in.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print results and errors only.")
@click.option("-v", "--verbose", is_flag=True, help="Print the output of builds and playbooks.")
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
        # a bug in Homeport; its message may contain a secret
        import traceback

        print(_redact(traceback.format_exc()), end="", file=sys.stderr)
        sys.exit(ExitCode.FAILED)


def _redact(text: str) -> str:
    """The text without the value of any secret that this process has read; imports nothing if it has read none."""
    redact = sys.modules.get("homeport.core.redact")
    return str(redact.redactor()(text)) if redact else text


def _report(error: HomeportError) -> int:
    error = HomeportError(_redact(error.what), _redact(error.where), _redact(error.fix), error.code)
    # --json is looked up in the raw arguments, because the error may precede their parsing
    if "--json" in sys.argv:
        import json

        print(json.dumps({"error": error.as_dict()}))
    print("\n".join(["error: " + error.lines()[0], *error.lines()[1:]]), file=sys.stderr)
    return int(error.code)
