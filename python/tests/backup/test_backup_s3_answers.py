"""The XML that S3 and other stores answer with: any namespace or none, and bodies that are no such answer at all."""

from __future__ import annotations

from urllib.parse import quote_plus
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st
from odd_store import DOCUMENTED, answering, at, refused, serving

from hostctl.backup import s3
from hostctl.backup.s3 import Bucket

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
SPACES = [
    pytest.param("<{0}{1}>", "</{0}>", "", id="no namespace"),
    pytest.param("<{0}{1}>", "</{0}>", f' xmlns="{NAMESPACE}"', id="default namespace"),
    pytest.param("<s3:{0}{1}>", "</s3:{0}>", f' xmlns:s3="{NAMESPACE}"', id="prefix"),
]
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]))
BOMB = '<!DOCTYPE x [<!ENTITY a "0000000000">' + "".join(
    f'<!ENTITY {one} "{f"&{before};" * 10}">' for before, one in zip("abcdefgh", "bcdefghi", strict=True)
)

Space = tuple[str, str, str]


def element(name: str, text: str, *, space: Space, root: bool = False) -> str:
    begin, end, declared = space
    return begin.format(name, declared if root else "") + text + end.format(name)


def listing(keys: list[str], token: str, space: Space) -> bytes:
    entries = "".join(
        element(
            "Contents",
            element("Key", escape(quote_plus(key)), space=space)
            + element("LastModified", "2026-01-02T03:04:05.678Z", space=space)
            + element("Size", str(len(key)), space=space),
            space=space,
        )
        for key in keys
    )
    more = element("IsTruncated", "true" if token else "false", space=space)
    more += element("NextContinuationToken", escape(token), space=space) if token else ""
    body = element("ListBucketResult", "\n" + more + entries, space=space, root=True)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'.encode()


@pytest.mark.parametrize(("begin", "end", "declared"), SPACES)
@given(keys=st.lists(TEXT, max_size=4), token=TEXT)
def test_a_listing_is_read_in_any_namespace(begin: str, end: str, declared: str, keys: list[str], token: str) -> None:
    found, more = s3.parse_listing(listing(keys, token, (begin, end, declared)))
    assert [(one.key, one.size, one.modified) for one in found] == [(key, len(key), 1767323045.678) for key in keys]
    assert more == token


@pytest.mark.parametrize(("begin", "end", "declared"), SPACES)
def test_an_error_is_read_in_any_namespace(begin: str, end: str, declared: str) -> None:
    space = (begin, end, declared)
    inner = element("Code", "Strange", space=space) + element("Message", "a &lt; b &amp; c", space=space)
    body = element("Error", inner, space=space, root=True)
    with serving(answering(418, body.encode())) as port:
        assert "S3 answered 418 Strange to GET : a < b & c" in refused(Bucket(at(port), DOCUMENTED).check).what


@pytest.mark.parametrize(("begin", "end", "declared"), SPACES)
def test_a_setting_is_read_in_any_namespace(begin: str, end: str, declared: str) -> None:
    space = (begin, end, declared)
    body = element("VersioningConfiguration", element("Status", "Enabled", space=space), space=space, root=True)
    with serving(answering(200, body.encode())) as port:
        assert Bucket(at(port), DOCUMENTED).versioned()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<VersioningConfiguration/>",
        b'<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"/>',
        b"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>",
        b"<VersioningConfiguration><Status/></VersioningConfiguration>",
        b"Enabled",
    ],
)
def test_a_setting_that_is_not_on_is_off(body: bytes) -> None:
    with serving(answering(200, body)) as port:
        assert not Bucket(at(port), DOCUMENTED).versioned()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"ok", id="text"),
        pytest.param(b"{}", id="JSON"),
        pytest.param(b"<!DOCTYPE html><html><body>Sign in</body></html>", id="HTML"),
        pytest.param(b"<ListBucketResult><Contents>", id="cut short"),
        pytest.param(b"<Error><Code>Odd</Code></Error>", id="another document"),
        pytest.param(b"<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>", id="no size"),
        pytest.param(b'<?xml version="1.0" encoding="x-none"?><ListBucketResult/>', id="an encoding nobody has"),
        pytest.param(b"\xff\xfe\x00", id="bytes"),
    ],
)
def test_an_answer_without_a_listing_is_not_an_empty_bucket(body: bytes) -> None:
    """An empty bucket is one that nobody writes to: that may not follow from a proxy's answer."""
    with serving(answering(200, body)) as port:
        error = refused(Bucket(at(port), DOCUMENTED).check)
    assert isinstance(error, s3.Refused)
    assert "S3 answered 200 without a listing" in error.what


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(f"{BOMB}]><Error><Code>&i;</Code></Error>", id="entities of entities"),
        pytest.param(
            '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]><Error><Code>&e;</Code></Error>', id="a file"
        ),
        pytest.param('<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd"><Error><Code>A</Code></Error>', id="a definition"),
        pytest.param("<Error><Code>&undefined;</Code></Error>", id="not defined"),
    ],
)
def test_no_entity_is_expanded_or_fetched(document: str) -> None:
    assert s3._element(s3.parse_xml(document.encode()), "Code") == ""


@given(st.binary(max_size=200))
def test_no_body_does_more_than_fail(body: bytes) -> None:
    assert s3.parse_xml(body) is not None
    with pytest.raises(ValueError, match="a listing was expected"):
        s3.parse_listing(body)
