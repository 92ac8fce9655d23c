"""deploy init: write a deploy.yml from what is found in the project."""

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
@click.option("--domain", help="The name the app answers at.")
@click.option("--bucket", help="The bucket that the database streams to.")
def command(directory: str, app: str | None, host: str | None, domain: str | None, bucket: str | None) -> None:
    """Write a deploy.yml from what is found in the project in DIR. One that is there is never overwritten.

    Its first line names .deploy.schema.json, which is written beside it: editors complete and check deploy.yml with it.
    Commit both. After an upgrade of Homeport, `deploy docs schema > .deploy.schema.json` renews it.
    """
    from homeport.config import template

    root = Path(directory)
    answers = template.checked(template.Answers(app, host, domain, bucket))
    project = template.find_project(root)
    path = template.write(root, template.render(root, project, answers))
    schema = template.write_schema(root)
    wanted = {"host": host, "domains": domain, **({"backup.bucket": bucket} if template.needs_bucket(project) else {})}
    missing = [key for key, given in wanted.items() if given is None]
    print(f"wrote {path} and {schema.name}")
    told = " and ".join(filter(None, [", ".join(missing[:-1]), *missing[-1:]]))
    print(f"next: set {told} in it, then: deploy config" if missing else "next: deploy config")
