"""The smaller parts: the confinement of a migration, static files, redaction, systemd's words, the source of a
build.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hostworld import World
from hypothesis import given
from hypothesis import strategies as st

from hostctl.common import files
from hostctl.common.errors import HostError
from hostctl.common.release import artifact
from hostctl.core.paths import Layout
from hostctl.host import systemd
from hostctl.instance import build
from hostctl.release import app_config, assets, confinement, redact
from hostctl.verbs import inspect

UNIT = """# /etc/systemd/system/shop@.service
[Unit]
Description=shop %i
[Service]
Type=exec
User=shop
EnvironmentFile=/var/lib/homeport/shop/releases/%i/env
ExecStart=/srv/shop/releases/%i/bin/shop start
Restart=always
RestartSec=300ms
TimeoutStopSec=10s
KillSignal=SIGTERM
# why
CapabilityBoundingSet=
SystemCallFilter=@system-service
SystemCallFilter=~@privileged \\
  @resources
LogRateLimitBurst=100%%
# /etc/systemd/system/shop@.service.d/more.conf
[Service]
MemoryMax=100M
[Install]
WantedBy=multi-user.target
"""


def test_a_migration_gets_the_walls_of_the_instance_and_none_of_its_life() -> None:
    assert confinement.properties(UNIT, "R1") == [
        "User=shop",
        "EnvironmentFile=/var/lib/homeport/shop/releases/R1/env",
        "CapabilityBoundingSet=",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged  @resources",
        "LogRateLimitBurst=100%",
        "MemoryMax=100M",
    ]


def test_without_a_unit_there_is_nothing_to_copy() -> None:
    assert confinement.properties("", "R1") == []


def test_what_a_program_must_have_is_added_to_what_is_copied() -> None:
    found = confinement.require("[Service]\nUser=shop\nMemoryMax=1\n", "R1", "shop", "shop@R1.service")
    ports = ["SocketBindDeny=tcp:20000-29999", "SocketBindDeny=tcp:4370"]
    assert found == ["User=shop", "MemoryMax=1", "User=shop", "Group=shop", "NoNewPrivileges=yes", *ports]


def test_what_the_instance_alone_may_listen_on_is_not_copied() -> None:
    found = confinement.require("[Service]\nUser=shop\nSocketBindAllow=tcp:20001\n", "R1", "shop", "shop@R1.service")
    assert not [line for line in found if line.startswith("SocketBindAllow")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# No files found for shop@R1.service.\n",
        "[Service]\nMemoryMax=1\n",
        "[Service]\nUser=blog\n",
        "[Service]\nUser=\n",
        "[Service]\nUser=shop\nUser=root\n",
        "[Service]\nUser=shop\nGroup=root\n",
        "[Unit]\nUser=shop\n",
    ],
)
def test_without_a_unit_of_the_apps_user_nothing_runs(text: str) -> None:
    with pytest.raises(HostError, match="does not say that it runs as shop"):
        confinement.require(text, "R1", "shop", "shop@R1.service")


def test_root_is_no_apps_user(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="root"):
        confinement.require("[Service]\nUser=root\n", "R1", "root", "shop@R1.service")
    app = Layout(tmp_path).app("shop")
    app.config.parent.mkdir(parents=True)
    app.config.write_text(json.dumps({"app": "shop", "user": "root"}))
    with pytest.raises(HostError, match=r"app\.json"):
        app_config.load(app)


def static(tree: Path, latest: dict[str, str], *files_there: str) -> None:
    directory = tree / "lib/shop-1/priv/static"
    for name in files_there:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(name)
    (directory / "cache_manifest.json").write_text(json.dumps({"latest": latest}))


def test_digested_files_and_their_compressed_forms_are_found_and_no_others(tmp_path: Path) -> None:
    static(
        tmp_path,
        {"app.js": "app-1.js", "gone.js": "gone-1.js"},
        "app-1.js",
        "app-1.js.gz",
        "app-1.js.br",
        "app.js",
    )
    assert [name for name, _ in assets.digested(tmp_path)] == ["app-1.js", "app-1.js.gz", "app-1.js.br"]


@pytest.mark.parametrize("name", ["../../../../secret", "/etc/passwd", "", "a/../../b"])
def test_a_manifest_cannot_name_files_outside(tmp_path: Path, name: str) -> None:
    static(tmp_path, {"x": name}, "ok.js")
    (tmp_path / "secret").write_text("s")
    assert list(assets.digested(tmp_path)) == []


@pytest.mark.parametrize("text", ["", "[]", '{"latest": []}', '{"latest": {"a": 1}}', "\xff"])
def test_a_manifest_that_is_none_is_passed_over(tmp_path: Path, text: str) -> None:
    static(tmp_path, {}, "a.js")
    (tmp_path / "lib/shop-1/priv/static/cache_manifest.json").write_text(text)
    assert list(assets.digested(tmp_path)) == []


@given(st.text("0123 "), st.lists(st.text("0123", min_size=4), max_size=4))
def test_no_secret_is_left_in_a_text(text: str, secrets: list[str]) -> None:
    cleaned = redact.replace(text + "-".join(secrets), secrets)
    assert not [secret for secret in secrets if secret in cleaned]


def test_each_line_of_a_secret_with_several_is_taken_out_by_itself() -> None:
    assert redact.replace("a\nBEGIN KEY\nb", ["BEGIN KEY\nabcdef\nEND"]) == "a\n[redacted]\nb"


def test_the_words_of_systemctl_show_are_read_for_several_units() -> None:
    text = "ActiveState=active\nSubState=running\nNRestarts=2\nMemoryCurrent=1048576\n"
    text += "\nActiveState=inactive\nMemoryCurrent=[not set]\n"
    first, second = (systemd.Unit(block) for block in systemd.parse_show(text))
    assert (first.state, first.restarts, first.memory, first.runs) == ("active", 2, 1 << 20, True)
    assert (second.state, second.restarts, second.memory, second.runs) == ("inactive", 0, None, False)


def test_a_unit_that_waits_to_be_restarted_does_not_run() -> None:
    assert not systemd.Unit({"ActiveState": "activating", "SubState": "auto-restart"}).runs


def test_sonames_and_memory_are_read_as_the_host_lists_them() -> None:
    listing = "2 libs found\n\tlibz.so.1 (libc6,x86-64) => /lib/libz.so.1\n\tlibc.so.6 (libc6) => /lib/libc.so.6\n"
    assert inspect.libraries(listing) == ["libc.so.6", "libz.so.1"]
    assert inspect.memory("MemTotal:  2048 kB\nMemAvailable: 1024 kB\n") == {
        "total": 2 << 20,
        "available": 1 << 20,
    }


# ---------------------------------------------------------------------------------------------- files


def test_a_write_replaces_the_whole_file_with_the_mode_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old and longer")
    files.write_atomic(path, b"new", 0o640)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_line_that_was_cut_short_by_a_crash_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    files.append_json(path, {"n": 1})
    with path.open("a") as log:
        log.write('{"n": 2')
    assert files.read_lines(path) == [{"n": 1}]
    assert files.read_lines(path, after=1) == []


# ---------------------------------------------------------------------------------------------- build


def test_an_error_of_hostctl_in_a_build_is_told_as_it_is() -> None:
    told = {"what": "the build made no release", "where": "/x", "fix": "look at the name", "code": 1}
    found = build.refusal(f"noise\n{json.dumps({'error': told})}")
    assert found is not None
    assert found.as_dict() == told


@pytest.mark.parametrize("output", ["", "** (Mix) no", '{"error": "text"}', "[1]", '{"error": {"what": "x"}}'])
def test_any_other_output_of_a_build_is_no_error_of_hostctl(output: str) -> None:
    assert build.refusal(output) is None


def spread(tmp_path: Path, tree: dict[str, str]) -> dict[str, object]:
    source = tmp_path / "source"
    for name, text in tree.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    artifact.normalise(source, tmp_path / "source.tar")
    files.remove_tree(source)
    return build.spread(str(tmp_path / "source.tar"), str(tmp_path / "src"))


def test_spreading_a_source_touches_only_what_changed_and_keeps_what_was_built(tmp_path: Path) -> None:
    spread(tmp_path, {"mix.exs": "1", "lib/a.ex": "a", "lib/old.ex": "o"})
    target = tmp_path / "src"
    (target / "_build/prod").mkdir(parents=True)
    (target / "_build/prod/x.beam").write_text("compiled")
    for name in ("mix.exs", "lib/a.ex"):
        os.utime(target / name, (1, 1))
    told = spread(tmp_path, {"mix.exs": "1", "lib/a.ex": "b", "lib/new/n.ex": "n"})
    assert told["changed"] == 2
    assert (target / "mix.exs").stat().st_mtime == 1
    assert (target / "lib/a.ex").read_text() == "b"
    assert (target / "lib/a.ex").stat().st_mtime > 1
    assert not (target / "lib/old.ex").exists()
    assert (target / "_build/prod/x.beam").read_text() == "compiled"


def test_a_directory_may_become_a_file_and_a_file_a_directory(tmp_path: Path) -> None:
    spread(tmp_path, {"a/b": "1", "c": "2"})
    spread(tmp_path, {"a": "3", "c/d": "4"})
    assert (tmp_path / "src/a").read_text() == "3"
    assert (tmp_path / "src/c/d").read_text() == "4"


def test_a_build_runs_without_privileges_behind_the_live_app(world: World) -> None:
    found = build.properties(world.app, {"limits": {"memory": 1 << 30, "tasks": 100, "seconds": 60}})
    assert {"User=shop-build", "CPUWeight=20", "Nice=10", "PrivateTmp=yes", "NoNewPrivileges=yes"} <= set(found)
    assert {"MemoryMax=1073741824", "TasksMax=100", "RuntimeMaxSec=60"} <= set(found)
