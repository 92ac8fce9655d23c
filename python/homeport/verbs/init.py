"""deploy init: writes a deploy.yml for a project."""

from __future__ import annotations

from pathlib import Path

import click

EPILOG = """Examples:

  deploy init

  deploy init --host root@198.51.100.7 --domain shop.test

  deploy init ../shop && deploy -c ../shop/deploy.yml config
"""


@click.command("init", epilog=EPILOG)
@click.argument("directory", metavar="[DIR]", default=".", type=click.Path(exists=True, file_okay=False))
@click.option("--app", help="The app's name on the host.")
@click.option("--host", help="An address, user@host:port, or an alias of ~/.ssh/config.")
@click.option("--domain", help="The domain name of the app.")
@click.option("--bucket", help="The S3 bucket of the backup.")
def command(directory: str, app: str | None, host: str | None, domain: str | None, bucket: str | None) -> None:
    """Write a deploy.yml for the project in DIR, filled in from its source. An existing deploy.yml is not overwritten.

    .deploy.schema.json, which the first line names, is written beside it: editors complete and check deploy.yml by it.
    Commit both files. After an upgrade of Homeport, write it again: `deploy docs schema > .deploy.schema.json`.
    """
    from homeport.config import template

    root = Path(directory)
    answers = template.check(template.Answers(app, host, domain, bucket))
    project = template.find_project(root)
    path = template.write(root, template.render(root, project, answers))
    schema = template.write_schema(root)
    needed = {"host": host, "domains": domain, **({"backup.bucket": bucket} if template.needs_bucket(project) else {})}
    missing = [key for key, value in needed.items() if value is None]
    print(f"wrote {path} and {schema.name}")
    keys = " and ".join(filter(None, [", ".join(missing[:-1]), *missing[-1:]]))
    print(f"next: set {keys} in it, then: deploy config" if missing else "next: deploy config")
