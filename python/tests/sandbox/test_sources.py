from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.core.errors import HomeportError
from homeport.sandbox.sources import KEYRING, Source, for_suite, of_machine, parse_deb822, parse_list

ARCHIVE = "http://archive.example/debian"
words = st.text(st.characters(codec="ascii", categories=["Ll", "Nd"]), min_size=1, max_size=8)
sources = st.builds(
    Source,
    words.map(lambda word: f"http://{word}.example/debian"),
    words,
    st.lists(words, min_size=1, max_size=3).map(tuple),
    words.map(lambda word: f"/keys/{word}.gpg"),
)


@given(st.lists(sources, max_size=4))
def test_the_one_line_form_is_read_back_as_written(given_sources: list[Source]) -> None:
    assert parse_list("\n".join(source.line() for source in given_sources)) == given_sources


@given(st.lists(sources, min_size=1, max_size=4))
def test_the_deb822_form_is_read_back_as_written(given_sources: list[Source]) -> None:
    stanzas = (
        f"Types: deb\nURIs: {source.uri}\nSuites: {source.suite}\n"
        f"Components: {' '.join(source.components)}\nSigned-By: {source.keyring}\n"
        for source in given_sources
    )
    assert parse_deb822("\n".join(stanzas)) == given_sources


def test_comments_options_and_source_packages_are_passed_over_in_the_one_line_form() -> None:
    text = f"""
        # deb {ARCHIVE} sid main
        deb [arch=amd64 signed-by=/keys/a.gpg] {ARCHIVE} bookworm main contrib # mine
        deb-src {ARCHIVE} bookworm main
    """
    assert parse_list(text) == [Source(ARCHIVE, "bookworm", ("main", "contrib"), "/keys/a.gpg")]


def test_a_deb822_stanza_names_every_pair_of_archive_and_suite() -> None:
    text = f"""Types: deb deb-src
# a comment within
URIs: {ARCHIVE}
Suites: bookworm
 bookworm-updates
Components: main
"""
    assert [source.suite for source in parse_deb822(text)] == ["bookworm", "bookworm-updates"]


@pytest.mark.parametrize("field", ["Enabled: no", "Types: deb-src"])
def test_a_deb822_stanza_that_gives_no_binaries_is_passed_over(field: str) -> None:
    assert parse_deb822(f"Types: deb\nURIs: {ARCHIVE}\nSuites: bookworm\nComponents: main\n{field}\n") == []


def test_a_key_written_into_the_sources_file_is_not_taken_for_a_path() -> None:
    text = f"Types: deb\nURIs: {ARCHIVE}\nSuites: bookworm\nComponents: main\n"
    (source,) = parse_deb822(f"{text}Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n")
    assert source.line() == f"deb [signed-by={KEYRING}] {ARCHIVE} bookworm main"


def test_debians_own_archives_are_mapped_to_the_release_asked_for() -> None:
    found = for_suite(
        [
            Source(ARCHIVE, "bookworm", ("main", "non-free-firmware")),
            Source(ARCHIVE, "bookworm-updates", ("main",)),
            Source("http://security.example", "stable-security", ("main",)),
        ],
        "trixie",
    )
    assert [source.suite for source in found] == ["trixie", "trixie-updates", "trixie-security"]
    assert found[0].components == ("main", "non-free-firmware")


@pytest.mark.parametrize(
    "other",
    [
        Source("http://docker.example", "bookworm", ("stable",)),
        Source("http://pgdg.example", "bookworm-pgdg", ("main",)),
        Source(ARCHIVE, "bookworm-backports", ("main",)),
        Source("http://node.example", "nodistro", ("main",)),
    ],
)
def test_third_parties_and_backports_stay_out_of_the_tree(other: Source) -> None:
    assert for_suite([other], "trixie") == []


def test_both_forms_of_a_machine_are_read_and_an_archive_named_twice_is_used_once(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(f"deb {ARCHIVE} bookworm main\n")
    stanza = f"Types: deb\nURIs: {ARCHIVE}\nSuites: bookworm bookworm-updates\nComponents: main\n"
    (tmp_path / "sources.list.d/debian.sources").write_text(stanza)
    assert [source.suite for source in of_machine("trixie", tmp_path)] == ["trixie", "trixie-updates"]


def test_a_machine_without_a_debian_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HomeportError, match="name no Debian archive"):
        of_machine("trixie", tmp_path)
