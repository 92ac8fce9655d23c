"""A small real mix project."""

from __future__ import annotations

from pathlib import Path

MIX_EXS = """defmodule Small.MixProject do
  use Mix.Project
  # {:phoenix, "~> 1.7"} and releases: and "assets.deploy": are only spoken of here
  def project, do: [app: :small, version: "0.1.0", deps: []@MORE@]
  def application, do: [extra_applications: [:crypto]]
end
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def mix_project(root: Path, more: str = "") -> Path:
    write(root / "mix.exs", MIX_EXS.replace("@MORE@", more))
    write(root / "lib" / "small.ex", "defmodule Small do\n  def version, do: 1\nend\n")
    return root
