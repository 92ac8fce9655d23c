"""The stamp differs exactly when the host has to be provisioned again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from homeport.config.hostvars import host_vars
from homeport.config.layers import load
from homeport.core.provision_stamp import stamp

DEPLOY_YML = """\
app: shop
host: 198.51.100.7
domains: [shop.test]
"""


def stamped(root: Path, text: str, destination: str | None = None) -> str:
    root.mkdir(exist_ok=True)
    (root / "deploy.yml").write_text(text)
    (root / "deploy.prod.yml").write_text("app: shop\n")
    found: dict[str, Any] = host_vars(load(root / "deploy.yml", destination))
    return stamp(found)


@pytest.mark.parametrize(
    "more",
    [
        "release: {build: host}",
        "release: {strategy: restart}",
        "limits: {memory: 512M}",
        "drain_timeout: 77s",
        "ssh: {user: pusher}",
        "acme: {email: me@shop.test}",
    ],
)
def test_what_a_role_reads_is_in_the_stamp(tmp_path: Path, more: str) -> None:
    assert stamped(tmp_path, DEPLOY_YML + more) != stamped(tmp_path, DEPLOY_YML)


@pytest.mark.parametrize(
    "more",
    [
        "env: {clear: {GREETING: hello}}",
        "env: {secret: [API_TOKEN]}",
        "retain_releases: 9",
        "release: {env: {NODE_ENV: production}}",
        "verify: {address: 198.51.100.8}",
    ],
)
def test_what_only_a_push_needs_is_not_in_the_stamp(tmp_path: Path, more: str) -> None:
    assert stamped(tmp_path, DEPLOY_YML + more) == stamped(tmp_path, DEPLOY_YML)


def test_a_newer_certificate_of_the_teams_own_needs_no_provisioning_but_the_first_does(tmp_path: Path) -> None:
    own = DEPLOY_YML.replace("[shop.test]", "[{name: shop.test, certificate: own.pem, key: SHOP_KEY}]")
    (tmp_path / "own.pem").write_text("this year's\n")
    before = stamped(tmp_path, own)
    (tmp_path / "own.pem").write_text("next year's\n")
    assert stamped(tmp_path, own) == before != stamped(tmp_path, DEPLOY_YML)


def test_two_laptops_and_two_names_of_a_destination_agree(tmp_path: Path) -> None:
    roots = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "root.pem").write_text("a root certificate\n")
        roots.append(tmp_path / name)
    text = DEPLOY_YML + "acme: {root: root.pem}\n"

    assert stamped(roots[0], text) == stamped(roots[1], text) == stamped(roots[0], text, "prod")
