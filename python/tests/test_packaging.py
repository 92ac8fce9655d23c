"""The wheel holds all that `deploy` needs and works from any directory; the locks hold all that the wheel needs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTENT = ("inventory", "docs")
COLLECTION = "ansible_collections/homeport/deploy"
ACTIONS = "python/homeport/plays/actions"
LOCKS = ("requirements.lock", "requirements-dev.lock")
# what a shell has on a bare machine: nothing of a virtual environment
BARE_PATH = "/usr/local/bin:/usr/bin:/bin"

NOWHERE = """\
app: shop
host: 127.0.0.1:1
domains: [shop.test]
ssh: {key: key, known_hosts: known_hosts}
"""


# ---------------------------------------------------------------------------------------------- the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out, checkout = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("checkout")
    for name in files_of("."):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, checkout / name, follow_symlinks=False)
    for ignored in ("python/homeport/__pycache__/cli.pyc", "roles/base/.cache/facts.json", "playbooks/.ansible/x"):
        (checkout / ignored).parent.mkdir(parents=True)
        (checkout / ignored).touch()
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(checkout)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return next(out.glob("homeport-*.whl"))


def files_of(*directories: str) -> set[str]:
    """What git tracks or would track below these directories."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *directories]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return {name for name in listed.split("\0") if name and ((ROOT / name).is_file() or (ROOT / name).is_symlink())}


def expected() -> set[str]:
    packages = {name.removeprefix("python/") for name in files_of("python/homeport", "python/hostctl")}
    return packages | collected() | {f"homeport/_content/{name}" for name in files_of(*CONTENT, "ansible.cfg")}


def collected() -> set[str]:
    """The files of the collection, with those that its links lead to."""
    own = {name.removeprefix("python/") for name in files_of(f"python/{COLLECTION}") if not (ROOT / name).is_symlink()}
    actions = {Path(name).name for name in files_of(ACTIONS)}
    plugins = {f"{COLLECTION}/plugins/{kind}/{name}" for kind in ("action", "modules") for name in actions}
    return own | plugins | {f"{COLLECTION}/{name}" for name in files_of("playbooks", "roles")}


def test_the_wheel_holds_what_git_holds_of_packages_and_playbooks_and_nothing_else(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}

    assert held == expected()
    assert {f"{COLLECTION}/playbooks/push.yml", f"{COLLECTION}/roles/base/files/root-hostctl"} <= held
    assert {"homeport/_content/ansible.cfg", "homeport/core/pinned_programs.json", "homeport/docs/deploy.yml"} <= held


# ---------------------------------------------------------------------------------------------- installed


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin directory of a virtual environment made as pipx makes one, but with the dependencies of this one."""
    home = tmp_path_factory.mktemp("pipx") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "-q"]
    subprocess.run([*pip, "--disable-pip-version-check", str(wheel)], check=True)
    site = next(home.glob("lib/*/site-packages"))
    # .pth files of a directory that a .pth names are not read: the editable install of this checkout stays out
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for program in ("ansible-playbook", "ansible-inventory", "ansible-doc"):
        code = (Path(sys.executable).parent / program).read_text().partition("\n")[2]
        (home / "bin" / program).write_text(f"#!{python}\n{code}")
        (home / "bin" / program).chmod(0o755)
    return home / "bin"


def run(program: Path, *args: str, home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a program from `/`, as a user whose shell knows of no virtual environment."""
    bare = {"PATH": BARE_PATH, "HOME": str(home), "LC_ALL": "C.UTF-8", **env}
    return subprocess.run(
        [str(program), *args], cwd="/", env=bare, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def packed(installed: Path) -> Path:
    return next(installed.parent.glob("lib/*/site-packages")) / "homeport" / "_content"


def packed_collection(installed: Path) -> Path:
    return next(installed.parent.glob("lib/*/site-packages")) / COLLECTION


@pytest.fixture(scope="module")
def nowhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deploy.yml for a host where nobody answers."""
    root = tmp_path_factory.mktemp("nowhere")
    (root / "deploy.yml").write_text(NOWHERE)
    (root / "release" / "bin").mkdir(parents=True)
    (root / "release" / "bin" / "shop").write_text("#!/bin/sh\n")
    return root / "deploy.yml"


@pytest.mark.parametrize(
    "args", [["--version"], ["--help"], ["push", "--help"], ["sandbox", "list"], ["docs", "verbs"], ["docs", "schema"]]
)
def test_the_installed_program_works_from_any_directory(installed: Path, tmp_path: Path, args: list[str]) -> None:
    done = run(installed / "deploy", *args, home=tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


def test_the_installed_program_uses_the_playbooks_it_came_with(installed: Path, tmp_path: Path) -> None:
    code = "from homeport.core.packaged_files import collection, content; print(content()); print(collection())"
    told = run(installed / "python", "-c", code, home=tmp_path).stdout.splitlines()

    assert told == [str(packed(installed)), str(packed_collection(installed))]


@pytest.mark.parametrize("playbook", ["push", "rollback", "plan", "provision"])
def test_ansible_understands_the_packed_playbooks_with_nothing_on_the_path(
    installed: Path, nowhere: Path, tmp_path: Path, playbook: str
) -> None:
    content = packed(installed)
    done = run(
        installed / "ansible-playbook",
        *("--syntax-check", "-i", str(content / "inventory"), f"homeport.deploy.{playbook}"),
        home=tmp_path,
        ANSIBLE_CONFIG=str(content / "ansible.cfg"),
        HOMEPORT_CONFIG=str(nowhere),
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("kind", ["module", "role"])
def test_ansible_documents_the_installed_collection_without_any_setting(
    installed: Path, tmp_path: Path, kind: str
) -> None:
    done = run(installed / "ansible-doc", "--json", "-l", "-t", kind, "homeport.deploy", home=tmp_path)
    names = {path.stem for path in (ROOT / ACTIONS).glob("*.py")} - {"__init__"}
    roles = {path.name for path in (ROOT / "roles").iterdir()}

    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout).keys() == {
        f"homeport.deploy.{name}" for name in (names if kind == "module" else roles)
    }


def test_the_packed_inventory_tells_the_host_of_a_deploy_yml(installed: Path, nowhere: Path, tmp_path: Path) -> None:
    content = packed(installed)
    env = {"ANSIBLE_CONFIG": str(content / "ansible.cfg"), "HOMEPORT_CONFIG": str(nowhere)}
    done = run(installed / "ansible-inventory", "--graph", home=tmp_path, **env)

    assert (done.returncode, done.stderr) == (0, "")
    assert "--shop" in done.stdout


@pytest.mark.parametrize("verb", [["push", "--artifact", "release"], ["provision"], ["rollback"]])
def test_a_playbook_runs_as_far_as_the_host_though_ansible_is_not_on_the_path(
    installed: Path, nowhere: Path, tmp_path: Path, verb: list[str]
) -> None:
    args = [str(nowhere.parent / word) if word == "release" else word for word in verb]
    done = run(installed / "deploy", "-c", str(nowhere), *args, home=tmp_path)

    assert done.returncode == 1
    assert "127.0.0.1" in done.stderr
    assert "Connection refused" in done.stderr


# ---------------------------------------------------------------------------------------------- the locks


def pinned(lock: str) -> dict[str, str]:
    """The block of each package in a lock file, by its name; a package of several versions has all of them."""
    found: dict[str, str] = {}
    for block in re.split(r"\n(?=\S)", (ROOT / lock).read_text().strip()):
        name = re.match(r"[A-Za-z0-9._-]+", block)
        assert name, block
        found[normal(name[0])] = found.get(normal(name[0]), "") + block
    return found


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def versions(block: str) -> set[str]:
    return set(re.findall(r"==([^\s;]+) ", block))


def named(requirements: list[object]) -> set[str]:
    return {normal(re.split(r"[^A-Za-z0-9._-]", each)[0]) for each in requirements if isinstance(each, str)}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_of_a_lock_has_one_version_and_hashes(lock: str) -> None:
    for name, block in pinned(lock).items():
        assert re.search(r"==\S+", block), name
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", block), name


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_says_what_and_not_from_where(lock: str) -> None:
    text = (ROOT / lock).read_text()

    assert "://" not in text
    assert not re.search(r"^\s*(-i|--index-url|--extra-index-url|--find-links|-f)\b", text, re.MULTILINE)


def test_the_locks_hold_every_dependency_that_the_project_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    needed = named(project["project"]["dependencies"]) | named(groups["build"])

    assert needed <= pinned("requirements.lock").keys()
    assert needed | named(groups["dev"]) <= pinned("requirements-dev.lock").keys()


def test_both_locks_hold_the_same_version_of_what_both_hold() -> None:
    user, developer = ({name: versions(block) for name, block in pinned(lock).items()} for lock in LOCKS)

    assert {name: found for name, found in developer.items() if name in user} == user


def test_the_environment_of_the_tests_is_the_one_that_the_lock_names() -> None:
    blocks = pinned("requirements-dev.lock")
    held = {name: version(name) for name in ("ansible-core", "click", "pydantic", "backports.zstd")}

    assert {name for name, each in held.items() if each not in versions(blocks[normal(name)])} == set()


def test_the_test_process_itself_is_not_what_made_the_wheel_work(installed: Path) -> None:
    """The virtual environment of the tests would hide a file that is missing from the wheel."""
    code = "import homeport, hostctl; print(homeport.__file__, hostctl.__file__)"
    done = run(installed / "python", "-c", code, home=Path(os.devnull))

    assert str(ROOT) not in done.stdout.replace(str(installed.parent), "")
