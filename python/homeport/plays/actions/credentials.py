"""The action credentials: sends the bucket's keys to hostctl on standard input."""

from __future__ import annotations

from homeport.core.errors import ExitCode, HomeportError
from homeport.plays.action import Action
from homeport.plays.actions.switch import secret_values
from hostctl.common.documents import Json

DOCUMENTATION = """
module: credentials
short_description: Send the backup bucket's keys to the host
description:
  - Sends the keys of the backup's bucket to the host on standard input. No argument and no result holds them.
  - A name without a value keeps the key that the host has.
options:
  names:
    description: The name of the secret for each key, C(access_key_id) and C(secret_access_key) for instance.
    type: dict
    required: true
extends_documentation_fragment:
  - homeport.deploy.action
  - homeport.deploy.action.root
  - homeport.deploy.action.secrets
  - homeport.deploy.action.app
"""

EXAMPLES = """
- name: Send the bucket's keys
  homeport.deploy.credentials:
    app: shop
    names:
      access_key_id: BACKUP_ACCESS_KEY_ID
      secret_access_key: BACKUP_SECRET_ACCESS_KEY
"""


class ActionModule(Action):
    """Returns {"changed": bool}. A name without a value keeps the key that the host has."""

    def act(self, args: Json, task_vars: Json) -> Json:
        names = args["names"]
        values = secret_values(filter(None, names.values()))
        if self._task.check_mode:
            return {"skipped": True}
        host = self.root_hostctl(args["app"], task_vars)
        try:
            keys = {key: values[name] if name else None for key, name in names.items()}
            return host.send("stream", keys, "credentials")
        except HomeportError as error:
            raise with_missing_names(error, [name for name, value in values.items() if value is None]) from None


def with_missing_names(error: HomeportError, missing: list[str]) -> HomeportError:
    """hostctl's error; with the names of the secrets without a value if they may be its cause."""
    if not missing or error.code != ExitCode.USAGE:
        return error
    what = f"{error.what}, and there is no value for {' and '.join(missing)}"
    fix = f"export {' '.join(missing)}, or deploy secrets set NAME, then run: deploy provision"
    return HomeportError(what, "environment", fix, error.code)
