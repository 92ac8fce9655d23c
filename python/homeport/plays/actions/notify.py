"""The action notify: sends the receivers and their URLs to hostctl on standard input. No result holds a URL."""

from __future__ import annotations

from homeport.plays.action import Action
from homeport.plays.actions.switch import secret_values
from hostctl.common.documents import Json

DOCUMENTATION = """
module: notify
short_description: Send the notification receivers to the host
description:
  - Sends the receivers and their URLs to the host on standard input. No argument and no result holds a URL.
  - A URL without a value keeps the one that the host has.
options:
  receivers:
    description: The receivers.
    type: list
    elements: dict
    required: true
    suboptions:
      url:
        description: The name of the secret that holds the URL.
        type: str
        required: true
      format:
        description: The format that the receiver reads.
        type: str
        choices: [slack, ntfy, json, plain]
        required: true
      "on":
        description: The events that are sent.
        type: list
        elements: str
        required: true
extends_documentation_fragment:
  - homeport.deploy.action
  - homeport.deploy.action.root
  - homeport.deploy.action.secrets
  - homeport.deploy.action.app
"""

EXAMPLES = """
- name: Send the receivers and their URLs
  homeport.deploy.notify:
    app: shop
    receivers:
      - url: SLACK_URL
        format: slack
        "on": [failure, trouble]
"""


class ActionModule(Action):
    """Returns {"changed": bool}. A URL without a value keeps the one that the host has."""

    def act(self, args: Json, task_vars: Json) -> Json:
        if self._task.check_mode:
            return {"skipped": True}
        receivers = args["receivers"]
        notifier = {"receivers": receivers, "urls": secret_values(one["url"] for one in receivers)}
        return self.root_hostctl(args["app"], task_vars).send("notifier", notifier, "keep")
