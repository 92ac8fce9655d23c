"""The URL of a database in Ecto's form: ecto://user:password@host:port/name?socket_dir=/run/postgresql&ssl=true.

By Ecto.Repo.Supervisor.parse_url and Postgrex's options: Ecto passes every parameter that it does not know to Postgrex;
`socket_dir` precedes the host, and the port is then only a part of the socket's name.
"""

from __future__ import annotations

from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from hostctl.common.errors import USAGE, HostError

SCHEMES = ("ecto", "postgres", "postgresql")
PORT = 5432
# parameters of a URL, and the variables by which libpq takes them
LIBPQ_VARIABLES = {"sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "channel_binding": "PGCHANNELBINDING"}


def variables(url: str, name: str) -> dict[str, str]:
    """The environment variables with which libpq's programs connect to the URL. None of it may be an argument.

    `name` is the variable that holds the URL. Raises HostError (usage) without the URL, which has a password.
    """
    parts, parameters = _split(url, name)
    values = {"PGHOST": parameters.get("socket_dir") or parts.hostname or "", "PGPORT": str(parts.port or PORT)}
    values |= {"PGUSER": unquote(parts.username or ""), "PGPASSWORD": unquote(parts.password or "")}
    values |= {"PGDATABASE": unquote(parts.path[1:])}
    values |= {"PGSSLMODE": "require"} if parameters.get("ssl") == "true" else {}
    values |= {variable: parameters[key] for key, variable in LIBPQ_VARIABLES.items() if key in parameters}
    return {key: value for key, value in values.items() if value}


def _split(url: str, name: str) -> tuple[SplitResult, dict[str, str]]:
    try:
        parts = urlsplit(url)
        parameters = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        complete = parts.scheme in SCHEMES and len(parts.path) > 1 and (parts.hostname or parameters.get("socket_dir"))
        if complete and (parts.port or PORT):
            return parts, parameters
    except ValueError:
        pass
    what = f"{name} is not the URL of a PostgreSQL database"
    raise HostError(
        what, f"the secret {name}", "set it to ecto://user:password@host:5432/database, and push again", USAGE
    )


def location(url: str, name: str) -> str:
    """Where the database is, without secrets. Raises HostError (usage)."""
    values = variables(url, name)
    return f"{values['PGDATABASE']} at {values['PGHOST']}"


def with_user(url: str, user: str) -> str:
    """The URL with another user, without a password."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{quote(user)}@{parts.netloc.rpartition('@')[2]}").geturl()
