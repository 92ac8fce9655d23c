"""Write the generated files into the repository: `bin/reference`, or `python -m reference` with python/ on the path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from reference import example, json_schema, keys, roles, verbs

ROOT = Path(__file__).resolve().parents[2]


# what writes each generated file, by its path in the repository
GENERATED: dict[str, Callable[[], str]] = {
    "docs/reference/deploy.yml.md": keys.page,
    "docs/reference/verbs.md": verbs.page,
    "docs/reference/deploy.schema.json": json_schema.text,
    "python/homeport/docs/deploy.yml": example.text,
    **roles.pages(),
}


def main() -> None:
    """Write each file whose text differs, and print its name."""
    for name, generate in GENERATED.items():
        path, text = ROOT / name, generate()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(name)


if __name__ == "__main__":
    main()
