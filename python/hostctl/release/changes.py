"""Differences between two sets of settings or variables, by name."""

from __future__ import annotations

from collections.abc import Mapping

from hostctl.common.documents import NamedChanges


def changed_keys(old: Mapping[str, object], new: Mapping[str, object], prefix: str = "") -> list[str]:
    """The dotted keys in which two settings differ."""
    changed: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            changed += changed_keys(before, after, f"{prefix}{key}.")
        elif before != after or (key in old) != (key in new):
            changed.append(prefix + key)
    return changed


def named_changes(old: Mapping[str, str], new: Mapping[str, str]) -> NamedChanges:
    """The names that two mappings do not both have, or with other values: {"added", "changed", "removed"}."""
    changed = sorted(name for name in old.keys() & new.keys() if old[name] != new[name])
    return {"added": sorted(new.keys() - old.keys()), "changed": changed, "removed": sorted(old.keys() - new.keys())}
