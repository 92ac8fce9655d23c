"""deploy open: the app in a browser."""

from __future__ import annotations

import json

import click

from homeport.options.options import Options, common

EPILOG = """Examples:

  deploy open

  deploy open /admin

  deploy open --print
"""


@click.command(epilog=EPILOG)
@click.argument("path", default="/")
@click.option("--print", "only_print", is_flag=True, help="Print the URL only; do not open it.")
@click.option("--json", "as_json", is_flag=True, help="Print the URL as a JSON document only; do not open it.")
@common
def command(options: Options, path: str, only_print: bool, as_json: bool) -> None:
    """Open the app in a browser, at PATH."""
    from homeport.remote.session import begin

    url = address(begin(options).loaded.config.names[0], path)
    if as_json:
        print(json.dumps({"url": url}))
        return
    print(url)
    if not only_print:
        click.launch(url)


def address(domain: str, path: str) -> str:
    """The URL of a path of the app. Raises click.UsageError for a path with spaces or unprintable characters."""
    if not path.isprintable() or any(char.isspace() for char in path):
        raise click.UsageError(f"{path!r} is not a path")
    return f"https://{domain}/{path.lstrip('/')}"
