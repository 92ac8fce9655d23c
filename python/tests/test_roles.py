"""What a role makes of the same settings is the same in every run."""

from __future__ import annotations

import re

import pytest

from homeport.core.packaged_files import content

ROLES = content() / "roles"
# Ansible makes them of Python's sets, whose order is another one in each process: a file would change with each run
OF_SETS = re.compile(r"\|\s*(difference|intersect|symmetric_difference|union)\b")


@pytest.mark.parametrize("suffix", ["yml", "j2"])
def test_no_role_takes_the_order_of_a_set(suffix: str) -> None:
    texts = {str(path.relative_to(ROLES)): path.read_text() for path in ROLES.rglob(f"*.{suffix}")}
    assert texts
    assert [name for name, text in texts.items() if OF_SETS.search(text)] == []
