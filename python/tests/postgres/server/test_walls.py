"""The confinement of servers on copies, and what they take from a copy. Without a server."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hostctl.common.errors import HostError
from hostctl.core.paths import App, Layout
from hostctl.postgres.server import cluster, scratch_server, walls

UNIT = """
[Unit]
AssertPathExists=/var/lib/postgresql/homeport/shop/data/PG_VERSION
[Service]
Type=notify
User=postgres
Group=postgres
ExecStart=/x/postgres
OOMScoreAdjust=-900
RuntimeDirectory=homeport-shop-postgres
RuntimeDirectoryMode=0755
TemporaryFileSystem=/var/lib:ro /etc/homeport:ro
BindPaths=/var/lib/postgresql/homeport/shop
BindReadOnlyPaths=/etc/homeport/shop
ProtectSystem=strict
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
[Install]
WantedBy=multi-user.target
"""
COPY = Path("/var/lib/postgresql/homeport/shop/drill")


def properties(network: bool, text: str = UNIT, parent: str = "homeport-shop-drill.service") -> list[str]:
    systemd = SimpleNamespace(text=lambda _: text, own_unit=lambda: parent)
    host: Any = SimpleNamespace(systemd=systemd)
    return walls.properties(Layout().app("shop"), host, [COPY], network)


def test_a_server_on_a_copy_has_the_walls_of_the_live_one_and_sees_the_copy_alone() -> None:
    found = properties(network=True)
    for line in ("User=postgres", "NoNewPrivileges=yes", "ProtectSystem=strict", "KillSignal=SIGINT"):
        assert line in found
    assert "TemporaryFileSystem=/var/lib:ro /etc/homeport:ro" in found
    assert [line for line in found if line.startswith("BindPaths=")] == [f"BindPaths={COPY}"]
    assert "BindsTo=homeport-shop-drill.service" in found
    assert "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX" in found
    for word in ("Exec", "Type=", "RuntimeDirectory", "OOMScoreAdjust=-900", "WantedBy", "AssertPath"):
        assert not [line for line in found if line.startswith(word)]


def test_without_a_recovery_it_has_neither_a_network_nor_the_keys_of_the_bucket() -> None:
    found = properties(network=False)
    assert "PrivateNetwork=yes" in found
    assert [line for line in found if line.startswith("RestrictAddress")] == ["RestrictAddressFamilies=AF_UNIX"]
    assert "InaccessiblePaths=-/etc/homeport/shop/pgbackrest.conf" in found


def test_where_no_unit_is_to_end_it_with_none_is_named() -> None:
    assert not [line for line in properties(network=True, parent="") if line.startswith("BindsTo")]


@pytest.mark.parametrize("text", ["", "[Service]\nUser=root\n", "[Service]\nExecStart=/x\n"])
def test_without_walls_no_server_starts(text: str) -> None:
    with pytest.raises(HostError, match="nothing is run in its place"):
        properties(network=True, text=text)


def test_its_unit_is_no_other_apps() -> None:
    # an app named shop-scratch has a unit homeport-shop-scratch-drill.service
    assert walls.unit(Layout().app("shop"), "drill") == "homeport-shop-scratch.drill.service"


@pytest.fixture
def app(tmp_path: Path) -> App:
    app = Layout(tmp_path).app("shop")
    app.database.parent.mkdir(parents=True)
    text = "# Written by Homeport\nhba_file = '/etc/homeport/shop/pg_hba.conf'\n"
    text += "ident_file = '/etc/homeport/shop/pg_ident.conf'\n"
    text += "shared_preload_libraries = 'pg_stat_statements, x''y'\nwork_mem = '8MB'\n"
    app.database.with_name("postgresql.conf").write_text(text)
    return app


def test_what_names_a_program_a_library_or_a_file_is_root_s_word_and_not_the_copys(app: App) -> None:
    """What stands on the command line precedes postgresql.auto.conf."""
    found = scratch_server._options(app, COPY, Path("/run/x"), archive=False)
    assert found["shared_preload_libraries"] == "pg_stat_statements, x'y"
    assert found["hba_file"] == "/etc/homeport/shop/pg_hba.conf"
    for name in (
        "archive_command",
        "archive_library",
        "restore_command",
        "recovery_end_command",
        "archive_cleanup_command",
        "ssl_passphrase_command",
        "session_preload_libraries",
        "local_preload_libraries",
        "primary_conninfo",
        "external_pid_file",
    ):
        assert found[name] == "", name
    assert (found["dynamic_library_path"], found["jit_provider"]) == ("$libdir", "llvmjit")


def test_a_session_of_hostctl_sets_what_an_app_could_set_for_it() -> None:
    old, new = (cluster.Server(Path(f"/usr/lib/postgresql/{major}/bin"), Path(), Path()) for major in (15, 17))
    mine = cluster.session_options(new, cluster.MONITOR, {"statement_timeout": "5"})
    assert "-c search_path= -c role=none -c row_security=off" in mine
    assert "-c default_transaction_isolation=read\\ committed" in mine
    assert mine.endswith("-c statement_timeout=5")
    assert "session_preload_libraries" not in mine  # only a superuser may
    root = cluster.session_options(new, cluster.SUPERUSER, {})
    assert "-c session_preload_libraries= -c session_replication_role=origin -c event_triggers=off" in root
    assert "event_triggers" not in cluster.session_options(old, cluster.SUPERUSER, {})
    assert "search_path" not in cluster.session_options(new, "shop", {})
