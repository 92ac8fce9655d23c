"""Asks a new release for the SQLite settings of its connections, before it goes live.

With unsafe settings the backup lacks rows without any error, and only a drill finds that later.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from hostctl.backup import settings
from hostctl.common import files
from hostctl.common.documents import SqliteSettings
from hostctl.common.errors import HostError
from hostctl.instance import release_command, start
from hostctl.journal.engine import Work
from hostctl.release.redact import redact
from hostctl.sqlite import pragmas
from hostctl.sqlite.pragmas import Settings

LONGEST = 60.0  # seconds that the release may take to answer
SHOWN_LINES = 20
LINE = '{"path": "…", "wal_autocheckpoint": 0, "busy_timeout": 5000, "journal_mode": "wal", "sqlite_version": "…"}'

# Runs on every Elixir since 1.11 and every Ecto since 3.0. No $ in it: systemd would take it for a variable.
ECTO = """
names = Path.wildcard(System.fetch_env!("RELEASE_ROOT") <> "/lib/*/ebin/*.app")
apps = Enum.map(names, fn name -> name |> Path.basename(".app") |> String.to_atom() end)
Enum.each(apps, &Application.load/1)

for app <- apps,
    repo <- Application.get_env(app, :ecto_repos, []),
    Code.ensure_loaded?(repo) and repo.__adapter__() == Ecto.Adapters.SQLite3 do
  {:ok, facts, _} =
    Ecto.Migrator.with_repo(repo, fn repo ->
      ask = fn sql -> hd(repo.query!(sql, [], log: false).rows) end

      [
        path: to_string(Enum.at(ask.("PRAGMA database_list"), 2)),
        wal_autocheckpoint: hd(ask.("PRAGMA wal_autocheckpoint")),
        busy_timeout: hd(ask.("PRAGMA busy_timeout")),
        journal_mode: hd(ask.("PRAGMA journal_mode")),
        sqlite_version: hd(ask.("SELECT sqlite_version()"))
      ]
    end)

  facts = [app: to_string(app), repo: inspect(repo)] ++ facts
  pairs = Enum.map(facts, fn {key, value} -> inspect(to_string(key)) <> ": " <> inspect(value) end)
  IO.puts("homeport-settings {" <> Enum.join(pairs, ", ") <> "}")
end
"""


# ---------------------------------------------------------------------------------------------- the step


def check(work: Work) -> str | None:
    """The step: ask the release for its settings. Raises HostError where they make the backup unsafe."""
    dbs = settings.load(work.app)
    if dbs is None or work.settings.get("database") is None:
        return None
    try:
        connections = read_settings(work)
    except HostError as error:
        if not dbs.unsafe:
            raise
        work.note(f"{error.what}; unsafe_checkpoints is allowed, so the push goes on")
        return "not told"
    verdict = pragmas.judge(connections, dbs)
    for text in verdict.notes:
        work.note(text)
    if verdict.refusal is not None:
        raise verdict.refusal
    return "; ".join(map(pragmas.describe, connections))


def cancel(work: Work) -> None:
    """The undo of the step: stop the release's command if it still runs."""
    release_command.stop(work, "settings")


# ---------------------------------------------------------------------------------------------- the release's answer


def read_settings(work: Work) -> list[Settings]:
    """The settings of every connection that the release configures.

    Raises HostError when its output has none.
    """
    start.assign_port(work)  # an app's runtime.exs may require PORT for every command
    log = work.app.record(work.release) / "settings.log"
    program = cast("SqliteSettings", work.settings.get("database"))["settings"]
    status = release_command.run(work, "settings", _command(work, program), log, LONGEST)
    text = log.read_text(errors="replace")
    shown = redact(text, work.app, work.release)
    files.write_atomic(log, shown.encode(errors="replace"), durable=False)
    connections = pragmas.parse(text) if status == 0 else []
    if not connections:
        raise _no_settings(log, program, status, "\n".join(shown.splitlines()[-SHOWN_LINES:]))
    return connections


def _command(work: Work, program: str | None) -> list[str]:
    tree = work.app.tree(work.release)
    if program is None:
        return [str(tree / "bin" / work.settings["release_name"]), "eval", ECTO]
    if not (tree / program).is_file():
        what = f"the release has no {program}, the program that prints its SQLite settings"
        raise HostError(what, "database.settings in deploy.yml", f"put it into rel/overlays/{program}, and push again")
    return [str(tree / program)]


def _no_settings(log: Path, program: str | None, status: int, shown: str) -> HostError:
    source = program or "read from its Ecto repos"
    what = f"the release did not print its SQLite settings ({source}, exit status {status})"
    what += f"; its last lines:\n{shown}" if shown else ""
    if status != 0:
        return HostError(what, str(log), "correct the error in these lines, and push again")
    line = f"for each database, a line like\n    {LINE}"
    if program is not None:
        return HostError(what, str(log), f"let {program} print, {line}")
    fix = "name the repos in config :your_app, :ecto_repos; or, without Ecto, name as database.settings in deploy.yml "
    return HostError(what, str(log), f"{fix}a program of the release that prints, {line}")
