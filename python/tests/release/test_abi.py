"""release.abi: real ELF files, made here by gcc, against what a host says it has."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeport.release import abi
from homeport.release.abi import Need, Problem
from homeport.release.cache import Cache

MACHINE = platform.machine()
RECENT = "#include <stdlib.h>\nint main(void) { return (int)arc4random() & 1; }\n"  # GLIBC_2.36
PLAIN = "int main(void) { return 0; }\n"


def host(**changes: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "machine": MACHINE,
        "glibc": "2.36",
        "libraries": ["libc.so.6", "libm.so.6"],
        "os": {"id": "debian", "version_id": "12", "codename": "bookworm"},
    }
    return facts | changes


def compiled(target: Path, source: str, *flags: str) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    command = ["gcc", "-x", "c", "-", "-o", str(target), "-Wl,--no-as-needed", *flags]
    subprocess.run(command, input=source, text=True, check=True)
    return target


@pytest.fixture
def release(tmp_path: Path) -> Path:
    (tmp_path / "release" / "bin").mkdir(parents=True)
    (tmp_path / "release" / "bin" / "app").write_text("#!/bin/sh\n")
    return tmp_path / "release"


@pytest.fixture
def known(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "elf.json"


def problems(release: Path, known: Path, **facts: Any) -> list[Problem]:
    return abi.check(abi.requirements(release, known), host(**facts))


def test_a_release_of_scripts_and_beams_needs_nothing(release: Path, known: Path) -> None:
    (release / "empty").touch()
    (release / "dangling").symlink_to("nowhere")
    assert abi.requirements(release, known) == []


def test_a_program_that_fits_is_no_problem(release: Path, known: Path) -> None:
    compiled(release / "erts" / "beam", RECENT, "-lm")
    (need,) = abi.requirements(release, known)
    assert (need.file, need.machine, need.glibc) == ("erts/beam", MACHINE, "2.36")
    assert "ld-linux" in need.loader
    assert set(need.libraries) == {"libc.so.6", "libm.so.6"}
    assert problems(release, known) == []


def test_a_newer_glibc_than_the_hosts_is_refused_with_both_versions(release: Path, known: Path) -> None:
    compiled(release / "erts" / "beam", RECENT)
    (found,) = problems(release, known, glibc="2.31")
    assert (found.file, found.needs, found.has) == ("erts/beam", "needs glibc 2.36", "has glibc 2.31")
    assert "release.build: container" in found.fix
    assert "release.build: host" in found.fix


@pytest.mark.parametrize(("needed", "there", "fits"), [("2.4", "2.36", True), ("2.36", "2.4", False)])
def test_glibc_versions_are_compared_as_numbers(needed: str, there: str, fits: bool) -> None:
    need = Need("a", MACHINE, needed)
    assert (abi.check([need], host(glibc=there)) == []) is fits


def test_another_machine_is_refused(release: Path, known: Path) -> None:
    path = compiled(release / "priv" / "nif.so", "int f(void) { return 1; }", "-shared", "-fPIC")
    data = bytearray(path.read_bytes())
    data[18:20] = (0xF3).to_bytes(2, "little")  # EM_RISCV
    path.write_bytes(data)
    (found,) = problems(release, known)
    assert (found.file, found.needs, found.has) == ("priv/nif.so", "is for riscv64", f"is {MACHINE}")


def test_a_release_built_on_macos_is_refused(release: Path, known: Path) -> None:
    (release / "beam.smp").write_bytes(b"\xcf\xfa\xed\xfe" + bytes(100))
    (found,) = problems(release, known)
    assert found.needs == "is for macOS"


def test_musl_is_refused(release: Path, known: Path) -> None:
    compiled(release / "beam", PLAIN, "-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1")
    (found,) = problems(release, known)
    assert found.needs == "is linked against musl"
    nif = Need("nif.so", MACHINE, libraries=("libc.musl-x86_64.so.1",))
    assert abi.check([nif], host())[0].needs == "is linked against musl"


@pytest.mark.parametrize(("codename", "package"), [("bookworm", "install libssl3"), ("trixie", "install libssl3t64")])
def test_a_missing_library_names_the_hosts_own_package(release: Path, known: Path, codename: str, package: str) -> None:
    compiled(release / "crypto.so", PLAIN, "-shared", "-fPIC", "-l:libcrypto.so.3")
    (found,) = problems(release, known, os={"codename": codename})
    assert found.needs == "needs libcrypto.so.3"
    assert found.fix.endswith(package)
    assert problems(release, known, libraries=["libc.so.6", "libcrypto.so.3"]) == []


def test_a_missing_library_that_no_package_is_known_for_asks_to_build_there(tmp_path: Path) -> None:
    (found,) = abi.check([Need("a", MACHINE, libraries=("libtinfo.so.5",))], host())
    assert "release.build" in found.fix
    (found,) = abi.check([Need("a", MACHINE, libraries=("libcrypto.so.3",))], host(os={"codename": "noble"}))
    assert "release.build" in found.fix


def test_a_library_that_the_release_ships_is_not_asked_of_the_host(release: Path, known: Path) -> None:
    library = release / "priv" / "libshop.so.1.2"
    compiled(library, "int f(void) { return 1; }", "-shared", "-fPIC", "-Wl,-soname,libshop.so.1")
    compiled(release / "priv" / "nif.so", PLAIN, "-shared", "-fPIC", "-x", "none", str(library))
    assert problems(release, known) == []
    library.unlink()
    (found,) = problems(release, known)
    assert found.needs == "needs libshop.so.1"


def test_an_object_file_is_never_loaded_and_needs_nothing(release: Path, known: Path) -> None:
    compiled(release / "a.o", PLAIN, "-c")
    assert problems(release, known, machine="riscv64") == []


def test_a_static_program_needs_only_the_machine(release: Path, known: Path) -> None:
    compiled(release / "esbuild", PLAIN, "-nostdlib", "-static", "-Wl,-e,main")
    (need,) = abi.requirements(release, known)
    assert need == Need("esbuild", MACHINE)


@pytest.mark.parametrize("kept", [4, 17, 60, 200, 3000])
def test_a_truncated_file_is_a_named_problem(release: Path, known: Path, kept: int) -> None:
    path = compiled(release / "beam", PLAIN)
    path.write_bytes(path.read_bytes()[:kept])
    (found,) = problems(release, known)
    assert found.file == "beam"
    assert found.needs.startswith("cannot be read as ELF: ")


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(4, 16000), st.binary(min_size=1, max_size=8)), max_size=6))
def test_no_damage_is_an_exception_or_a_hang(whole: bytes, damage: list[tuple[int, bytes]]) -> None:
    data = bytearray(whole)
    for at, noise in damage:
        data[at : at + len(noise)] = noise
    abi.check([abi._read(bytes(data))._replace(file="beam")], host())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return compiled(tmp_path_factory.mktemp("elf") / "beam", RECENT, "-lm").read_bytes()


def test_what_is_known_of_a_file_is_not_read_again(release: Path, known: Path) -> None:
    compiled(release / "beam", PLAIN)
    first = abi.requirements(release, known)
    known.write_text(known.read_text().replace('"2.34"', '"2.99"').replace('"2.2.5"', '"2.99"'))
    (again,) = abi.requirements(release, known)
    assert (again.file, again.glibc) == (first[0].file, "2.99")


def test_a_memory_that_is_damaged_or_of_another_format_is_made_anew(release: Path, known: Path) -> None:
    compiled(release / "beam", PLAIN)
    first = abi.requirements(release, known)
    for text in ("{", "[]", "{}", known.read_text().replace('"format": 1', '"format": 0')):
        known.write_text(text)
        assert abi.requirements(release, known) == first


def test_a_tar_needs_what_its_directory_needs(release: Path, known: Path, tmp_path: Path) -> None:
    compiled(release / "erts" / "beam", RECENT, "-lm")
    made = Cache("shop", tmp_path / "cache").add(release)
    assert abi.requirements(made.tar, known) == abi.requirements(release, known)


def test_a_tar_named_by_its_digest_is_not_read_again(release: Path, known: Path, tmp_path: Path) -> None:
    compiled(release / "erts" / "beam", RECENT)
    tar = Cache("shop", tmp_path / "cache").add(release).tar
    first = abi.requirements(tar, known)
    tar.unlink()
    assert abi.requirements(tar, known) == first


def test_files_with_the_same_trouble_are_told_once_with_every_way_out() -> None:
    needs = [Need(f"erts/{n}", MACHINE, "2.41") for n in "abc"]
    needs.append(Need("nif.so", MACHINE, libraries=("libcrypto.so.3",)))
    error = abi.refusal(abi.check(needs, host()), "shop.example")
    assert "erts/a and 2 more: needs glibc 2.41, shop.example has glibc 2.36" in error.what
    assert "nif.so needs libcrypto.so.3, shop.example does not have it" in error.what
    assert error.where == "erts/a (in the release)"
    assert "release.build: container" in error.fix
    assert "apt-get install libssl3" in error.fix
    assert error.code == 1
