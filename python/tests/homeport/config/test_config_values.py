"""Durations, sizes and hosts as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.config import values
from homeport.config.values import Host


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30.0),
        ("1.5s", 1.5),
        ("5m", 300.0),
        ("1h", 3600.0),
        (7, 7.0),
        (0.5, 0.5),
        ("0s", 0.0),
    ],
)
def test_durations(written: object, seconds: float) -> None:
    assert values.duration()(written) == seconds


@pytest.mark.parametrize(
    "written",
    ["30", "s", "1d", "-1s", "1m30s", " 1s", "1s\n", "٣s", "25h", True, None, [], -1, 1e9, float("nan")],
)
def test_what_is_no_duration(written: object) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        values.duration()(written)


@given(st.integers(0, 24 * 3600 * 1000))
def test_a_duration_is_shown_as_it_is_read(milliseconds: int) -> None:
    seconds = milliseconds / 1000

    assert values.duration()(values.show_duration(seconds)) == seconds
    assert values.duration()(f"{milliseconds}ms") == seconds


@given(st.from_regex(r"[0-9]{1,4}(\.[0-9]{1,9})?(ms|s|m|h)", fullmatch=True, alphabet=st.characters(max_codepoint=127)))
def test_whatever_duration_is_read_is_shown_as_the_same(written: str) -> None:
    seconds = values.duration(most=1e9)(written)
    assert values.duration(most=1e9)(values.show_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("written", "count"),
    [("512M", 2**29), ("2G", 2**31), ("16384K", 2**24), ("1T", 2**40), ("1GiB", 2**30), (2**25, 2**25)],
)
def test_sizes(written: object, count: int) -> None:
    assert values.size(values.LEAST_MEMORY)(written) == count


@pytest.mark.parametrize(
    ("written", "port"),
    [(25, "25/tcp"), ("25", "25/tcp"), ("8443/tcp", "8443/tcp"), ("51820/udp", "51820/udp"), ("065535", "65535/tcp")],
)
def test_ports_that_are_open(written: object, port: str) -> None:
    assert values.open_port(written) == port


@pytest.mark.parametrize(
    "written",
    ["0", 65_536, "ssh", "25/sctp", "25/", "/tcp", "25/tcp/x", "25 }", "٣", -1, 2.5, True, None, [], "", "22-25/tcp"],
)
def test_what_is_no_port_that_can_be_opened(written: object) -> None:
    with pytest.raises(ValueError, match="must"):
        values.open_port(written)


@pytest.mark.parametrize("written", ["512", "1M", "2 G", "2g", "-2G", "", None, True, 0.5, [], "1.5G"])
def test_what_is_no_size(written: object) -> None:
    with pytest.raises(ValueError, match="must be a size"):
        values.size(values.LEAST_MEMORY)(written)


@given(st.integers(2**24, 2**45))
def test_a_size_is_shown_as_it_is_read(count: int) -> None:
    assert values.size(values.LEAST_MEMORY)(values.show_size(count) if count % 1024 == 0 else count) == count


@pytest.mark.parametrize(
    ("written", "host"),
    [
        ("10.0.0.1", Host("10.0.0.1")),
        ("shop-host", Host("shop-host")),
        ("me@10.0.0.1", Host("10.0.0.1", "me")),
        ("me@a.test:2222", Host("a.test", "me", 2222)),
        ("a.test:22", Host("a.test", None, 22)),
        ("[2001:db8::1]", Host("2001:db8::1")),
        ("root@[2001:db8::1]:22", Host("2001:db8::1", "root", 22)),
    ],
)
def test_hosts(written: str, host: Host) -> None:
    assert values.parse_host(written) == host


@given(st.text())
def test_a_host_never_reads_as_an_option_of_ssh(text: str) -> None:
    try:
        host = values.parse_host(text)
    except ValueError:
        return
    assert not host.address.startswith("-")
    assert not (host.user or "").startswith("-")
    assert not set(host.address) & set(" \t\n'\"$`;|&<>")


@given(st.text())
def test_a_name_that_passes_is_safe_everywhere(text: str) -> None:
    for parse in (values.app_name, values.domain_name, values.release_name, values.command, values.login):
        try:
            name = parse(text)
        except ValueError:
            continue
        assert name.isascii()
        assert not set(name) & set(" \t\n'\"$`;|&<>\\")
