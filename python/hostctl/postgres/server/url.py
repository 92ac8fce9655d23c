"""The URL of a database, as Ecto reads it: ecto://user:password@host:port/name?socket_dir=/run/postgresql&ssl=true.

From Ecto.Repo.Supervisor.parse_url and Postgrex's options: every parameter that Ecto does not know itself is handed on,
`socket_dir` goes before the host, and the port then only names the socket.
"""

from __future__ import annotations

from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from hostctl.common.errors import USAGE, HostError

SCHEMES = ("ecto", "postgres", "postgresql")
PORT = 5432
# parameters of a URL that libpq takes by these variables
HANDED_ON = {"sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "channel_binding": "PGCHANNELBINDING"}


def variables(url: str, name: str) -> dict[str, str]:
    """The variables by which libpq's programs connect to the same place: nothing of it is ever an argument.

    `name` is the variable that holds the URL. Raises HostError (usage), which never tells the URL: it has a password.
    """
    parts, given = _split(url, name)
    told = {"PGHOST": given.get("socket_dir") or parts.hostname or "", "PGPORT": str(parts.port or PORT)}
    told |= {"PGUSER": unquote(parts.username or ""), "PGPASSWORD": unquote(parts.password or "")}
    told |= {"PGDATABASE": unquote(parts.path[1:])}
    told |= {"PGSSLMODE": "require"} if given.get("ssl") == "true" else {}
    told |= {variable: given[key] for key, variable in HANDED_ON.items() if key in given}
    return {key: value for key, value in told.items() if value}


def _split(url: str, name: str) -> tuple[SplitResult, dict[str, str]]:
    try:
        parts = urlsplit(url)
        given = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        whole = parts.scheme in SCHEMES and len(parts.path) > 1 and (parts.hostname or given.get("socket_dir"))
        if whole and (parts.port or PORT):
            return parts, given
    except ValueError:
        pass
    what = f"{name} is no URL of a PostgreSQL database"
    raise HostError(
        what, f"the secret {name}", "make it ecto://user:password@host:5432/database, and push again", USAGE
    )


def place(url: str, name: str) -> str:
    """Where the database is, fit to be shown. Raises HostError (usage)."""
    told = variables(url, name)
    return f"{told['PGDATABASE']} at {told['PGHOST']}"


def with_user(url: str, user: str) -> str:
    """The URL for another user, who has no password."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{quote(user)}@{parts.netloc.rpartition('@')[2]}").geturl()
