"""Where the files beside the packages are: in the wheel, or in the repository of an editable install."""

from __future__ import annotations

from pathlib import Path


def content() -> Path:
    """The directory that holds ansible.cfg, the inventory and the documentation."""
    package = Path(__file__).parents[1]
    packed = package / "_content"
    return packed if packed.is_dir() else package.parents[1]


def collection() -> Path:
    """The directory of the Ansible collection homeport.deploy, which holds the playbooks, roles and actions.

    It is on Python's path, where Ansible looks for collections: ansible_collections/homeport/deploy.
    """
    return Path(__file__).parents[2] / "ansible_collections" / "homeport" / "deploy"
