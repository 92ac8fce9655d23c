"""Ecto's migrations of a release, by the names of their files: what is pending can be told without running it."""

from __future__ import annotations

from collections.abc import Iterable


def of(files: Iterable[str]) -> set[str]:
    """The migrations among a release's files. lib/shop-1.2/… is lib/shop/…: a version has none of its own."""
    return {_without_version(name) for name in files if _is_migration(name)}


def _is_migration(name: str) -> bool:
    parts = name.split("/")
    return parts[0] == "lib" and "priv" in parts and parts[-2] == "migrations" and name.endswith((".exs", ".ex"))


def _without_version(name: str) -> str:
    parts = name.split("/")
    return "/".join([parts[0], parts[1].rpartition("-")[0] or parts[1], *parts[2:]])
