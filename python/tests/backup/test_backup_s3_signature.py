"""hostctl addresses and signs a request as botocore does, the reference client, whatever the key."""

from __future__ import annotations

import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import NamedTuple

import boto3
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given
from hypothesis import strategies as st
from odd_store import DOCUMENTED, at, serving

from hostctl.backup import s3
from hostctl.backup.s3 import Bucket
from hostctl.backup.settings import Credentials

REGION = "eu-central-1"  # of `at`
KEYS = [
    *("plain", "a/b/c", "a b", " ", "a+b", "a%20b", "~tilde-_.x", "a//b", "a/../b", "a/./b/", "ü€𝄞", "&=?#", "'\"<>"),
    *("(a)*!", "a:b@c,d;e$", "\\", "[]{}|^`", "\x01\x7f\n", "é", "e\u0301"),
]
# what a URL can hold: no half of a surrogate pair
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
PUBLIC = BotocoreCredentials(DOCUMENTED.access_key_id, DOCUMENTED.secret_access_key)


class Request(NamedTuple):
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Recording(BaseHTTPRequestHandler):
    """A store without objects that keeps every request."""

    requests: list[Request]

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        self.requests.append(Request(self.command, self.path, headers, body))
        listing = b"<ListBucketResult/>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(listing)))
        self.end_headers()
        self.wfile.write(listing)

    do_PUT = do_DELETE = do_GET  # noqa: N815 - the base class' names

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    Recording.requests = []
    with serving(Recording) as number:
        yield number


def last() -> Request:
    return Recording.requests[-1]


def by_botocore(request: Request, host: str, region: str = REGION) -> str:
    """The Authorization header that botocore gives a request; its body is hashed anew."""
    signer = S3SigV4Auth(PUBLIC, "s3", region)
    known = AWSRequest(request.method, f"http://{host}{request.target}", data=request.body)
    known.headers["X-Amz-Date"] = request.headers["x-amz-date"]
    known.headers["X-Amz-Content-SHA256"] = signer.payload(known)
    known.context["timestamp"] = request.headers["x-amz-date"]
    canonical = signer.canonical_request(known)
    signature = signer.signature(signer.string_to_sign(known, canonical), known)
    scope = f"Credential={signer.scope(known)}"
    return f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={signature}"


@pytest.mark.parametrize("key", KEYS)
def test_every_verb_on_an_odd_key_is_signed_as_by_botocore(port: int, key: str) -> None:
    bucket = Bucket(at(port), DOCUMENTED)
    for act in (
        lambda: bucket.get(key),
        lambda: bucket.put(key, b"content of " + key.encode(), if_none_match=True),
        lambda: bucket.delete(key),
        lambda: bucket.list(key, after=key),
    ):
        act()
        assert last().headers["authorization"] == by_botocore(last(), f"127.0.0.1:{port}")


def test_the_bucket_itself_is_signed_as_by_botocore(port: int) -> None:
    bucket = Bucket(at(port), DOCUMENTED)
    for act in (bucket.check, bucket.create, bucket.versioned, bucket.locked):
        act()
        assert last().headers["authorization"] == by_botocore(last(), f"127.0.0.1:{port}")


@pytest.mark.parametrize("key", KEYS)
def test_an_object_has_the_address_that_boto3_gives_it(port: int, key: str) -> None:
    Bucket(at(port), DOCUMENTED).get(key)
    ours = last().target
    boto3.client(
        "s3",
        region_name=REGION,
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id=DOCUMENTED.access_key_id,
        aws_secret_access_key=DOCUMENTED.secret_access_key,
        config=Config(s3={"addressing_style": "path"}, proxies={}),
    ).get_object(Bucket="shop-backups", Key=key)
    assert ours == last().target


@given(
    method=st.sampled_from(["GET", "PUT", "DELETE", "HEAD"]),
    key=TEXT,
    query=st.dictionaries(TEXT, st.text(st.characters(codec="utf-8"), max_size=20), max_size=4),
    body=st.binary(max_size=50),
    region=st.sampled_from(["us-east-1", "eu-central-1", "auto"]),
    now=st.floats(0, 4e9),
)
def test_any_request_is_signed_as_by_botocore(
    method: str, key: str, query: dict[str, str], body: bytes, region: str, now: float
) -> None:
    host, path = "shop.s3.example.org:8443", f"/{key}"
    signed = s3.sign(DOCUMENTED, region, method, host, path, query, body, now)
    target = s3.quoted(path) + ("?" + s3.canonical_query(query) if query else "")
    assert signed["x-amz-date"] == time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    assert signed["authorization"] == by_botocore(Request(method, target, signed, body), host, region)


def test_another_secret_signs_otherwise() -> None:
    other = Credentials(DOCUMENTED.access_key_id, "another")
    one, two = (s3.sign(keys, REGION, "GET", "host", "/", {}, b"", 0.0) for keys in (DOCUMENTED, other))
    assert one["authorization"] != two["authorization"]
