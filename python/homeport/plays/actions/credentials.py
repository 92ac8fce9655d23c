"""Hand the keys of the backup's bucket to hostctl on standard input: no argument and no result holds them."""

from __future__ import annotations

from typing import Any

from homeport.core.errors import ExitCode, HomeportError
from homeport.plays.actions.action import Action
from homeport.plays.actions.switch import values_of

Json = dict[str, Any]


class ActionModule(Action):
    """Returns {"changed": bool}. A name without a value keeps what the host has."""

    def act(self, args: Json, task_vars: Json) -> Json:
        names = args["names"]
        values = values_of(filter(None, names.values()))
        if self._task.check_mode:
            return {"skipped": True}
        host = self.root_hostctl(args["app"], task_vars)
        try:
            told = {key: values[name] if name else None for key, name in names.items()}
            return host.send("stream", told, "credentials")
        except HomeportError as error:
            raise explained(error, [name for name, value in values.items() if value is None]) from None


def explained(error: HomeportError, missing: list[str]) -> HomeportError:
    """hostctl's refusal, naming the secrets that were not given where that may be why."""
    if not missing or error.code != ExitCode.USAGE:
        return error
    what = f"{error.what}, and there is no value for {' and '.join(missing)}"
    fix = f"export {' '.join(missing)}, or deploy secrets set NAME, then run: deploy provision"
    return HomeportError(what, "environment", fix, error.code)
