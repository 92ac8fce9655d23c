"""The action files: directories and files of the host, all of a role's in one remote command."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ansible.plugins.loader import lookup_loader

from homeport.core.errors import HomeportError
from homeport.plays.action import Action
from hostctl.common.documents import Json

DOCUMENTATION = """
module: files
short_description: Create directories and files of the host in one remote command
description:
  - Creates what is missing, and corrects content, owner, group and mode of what differs. Does nothing else.
  - Replaces many C(ansible.builtin.file), C(template) and C(copy) tasks, each of which takes several remote commands.
    Refuses to write to a path of which another user than root can replace a part, and over anything but a plain file.
options:
  directories:
    description: Directories, the parents before what they hold.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {type: path, required: true, description: The directory.}
      owner: {type: str, default: root, description: Its user.}
      group: {type: str, default: root, description: Its group.}
      mode: {type: str, default: "0755", description: Its octal mode.}
  files:
    description: Files, each with exactly one of I(template), I(source) and I(content).
    type: list
    elements: dict
    default: []
    suboptions:
      path: {type: path, required: true, description: The file.}
      template: {type: str, description: A template of the role. The file gets its text.}
      source: {type: str, description: "A text file of the role, or of the controller by its absolute path."}
      content: {type: str, description: The text itself.}
      owner: {type: str, default: root, description: Its user.}
      group: {type: str, default: root, description: Its group.}
      mode: {type: str, default: "0644", description: Its octal mode.}
      validate:
        description: A command that accepts a file by its exit status 0. The path of that file takes the place of C(%s).
        type: list
        elements: str
        default: []
  absent:
    description: Files to remove.
    type: list
    elements: path
    default: []
  user:
    description: >-
      The user who does all of this. Where a lesser user can put a link in the place of a directory, it has to be that
      user.
    type: str
    default: root
notes:
  - Needs hostctl on the host.
  - Supports check mode and diff.
extends_documentation_fragment:
  - homeport.deploy.action
  - homeport.deploy.action.root
"""

EXAMPLES = """
- name: Install the settings of the edge
  homeport.deploy.files:
    directories:
      - path: /etc/homeport/edge
    files:
      - path: /etc/homeport/edge/shared.json
        template: shared.json.j2
"""

RETURN = """
paths:
  description: The paths that were created, corrected or removed.
  returned: success
  type: list
  elements: str
"""

TEXTS = {"template": "ansible.builtin.template", "source": "ansible.builtin.file"}


class ActionModule(Action):
    """Returns {"changed": bool, "paths": list}, and what differed for --diff."""

    def act(self, args: Json, task_vars: Json) -> Json:
        spec: Json = {
            "directories": [entry(each, "0755") for each in args.get("directories", [])],
            "files": [self._file(each, task_vars) for each in args.get("files", [])],
            "absent": list(args.get("absent", [])),
            "user": str(args.get("user", "root")),
        }
        changes = self._changes(spec, task_vars)
        texts = {each["path"]: each["content"] for each in spec["files"]}
        return {"changed": bool(changes), "paths": [each["path"] for each in changes], **self._diff(changes, texts)}

    def _changes(self, spec: Json, task_vars: Json) -> list[Json]:
        changes = self.converge("converge", spec, task_vars)
        if changes is None:
            return [{"path": each["path"], "before": None} for each in (*spec["directories"], *spec["files"])]
        return changes

    def _file(self, item: Json, task_vars: Json) -> Json:
        kinds = [kind for kind in (*TEXTS, "content") if item.get(kind) is not None]
        if len(kinds) != 1:
            what = f"{item['path']} needs exactly one of {', '.join(TEXTS)} and content"
            raise HomeportError(what, "the task", "give one of them")
        (kind,) = kinds
        text = item[kind] if kind == "content" else self._look_up(TEXTS[kind], item[kind], task_vars)
        validate = [str(word) for word in item.get("validate", [])]
        return {**entry(item, "0644"), "content": str(text), **({"validate": validate} if validate else {})}

    def _look_up(self, plugin: str, name: str, task_vars: Json) -> str:
        lookup = lookup_loader.get(plugin, loader=self._loader, templar=self._templar)
        options = {} if plugin == TEXTS["template"] else {"rstrip": False}
        return str(lookup.run([name], variables=task_vars, **options)[0])

    def _diff(self, changes: list[Json], texts: dict[str, str]) -> dict[str, Any]:
        if not self._task.diff:
            return {}
        return {"diff": list(differences(changes, texts))}


def entry(item: Json, mode: str) -> Json:
    """What hostctl takes of a directory or file, with the defaults."""
    return {
        "path": str(item["path"]),
        "owner": str(item.get("owner", "root")),
        "group": str(item.get("group", "root")),
        "mode": str(item.get("mode", mode)),
    }


def differences(changes: list[Json], texts: dict[str, str]) -> Iterator[Json]:
    """As Ansible shows differences: what there was, and what there is."""
    for each in changes:
        path = each["path"]
        yield {
            "before": each["before"] or "",
            "after": texts.get(path, ""),
            "before_header": path,
            "after_header": path,
        }
