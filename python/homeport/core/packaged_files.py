"""Where the playbooks, roles and inventory are: in the wheel, or in the repository of an editable install."""

from __future__ import annotations

from pathlib import Path


def content() -> Path:
    """The directory that holds ansible.cfg, playbooks, roles and inventory."""
    package = Path(__file__).parents[1]
    packed = package / "_content"
    return packed if packed.is_dir() else package.parents[1]
