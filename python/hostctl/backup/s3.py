"""A client for one bucket of an S3-compatible store, with the standard library alone: signature version 4, both styles
of addresses, conditional writes. Its errors distinguish a wrong key, a wrong region and an unreachable store.
"""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import functools
import hashlib
import hmac
import socket
import ssl
import time
import urllib.parse
from collections.abc import Mapping
from typing import NamedTuple
from xml.etree import ElementTree

from hostctl.backup.settings import Backup, Credentials
from hostctl.common.errors import HostError
from hostctl.common.net import http
from hostctl.common.net.http import Response
from hostctl.common.timestamps import compact

CONNECT = 5.0  # seconds for a connection, certificate included
TOTAL = 30.0  # seconds for one request, whatever the store does
TRIES = 3
PAUSE = 0.3  # seconds before the second try; more before the third
BUSY = frozenset({429, 500, 502, 503, 504})
SKEW = 5 * 60.0  # seconds that clocks may differ before a store begins to refuse (AWS: 15 minutes)


class Unreachable(HostError):  # noqa: N818 - named by what happened
    """The store did not answer, or not in time."""


class Refused(HostError):  # noqa: N818 - as above
    """The store answered with an error; `status` and `reason` are the store's."""

    def __init__(self, what: str, where: str, fix: str, status: int, reason: str) -> None:
        super().__init__(what, where, fix)
        self.status, self.reason = status, reason


class Conflict(Refused):
    """The condition of a write did not hold; nothing was written."""


class Object(NamedTuple):
    """An entry of a listing: bytes, and when it was written, in seconds since the epoch."""

    key: str
    size: int
    modified: float


Objects = list[Object]


class Bucket:
    """One bucket. Every method raises HostError: Unreachable, Refused or Conflict. Keys are complete, `prefix`
    included.

    `skew` is how many seconds the store's clock was ahead at the last answer; None before the first.
    """

    def __init__(
        self,
        backup: Backup,
        credentials: Credentials,
        connect: float = CONNECT,
        total: float = TOTAL,
        tries: int = TRIES,
    ) -> None:
        self.name, self.prefix, self.region = backup.bucket, backup.prefix, backup.region
        self.connect, self.total, self.tries = connect, total, tries
        self.skew: float | None = None
        self._keys, self._ca = credentials, backup.ca
        self._tls, self.host, self.port, self._root = _address(backup)
        self.where = f"s3://{self.name} at {self.host}:{self.port}"

    def get(self, key: str) -> tuple[bytes, str] | None:
        """The object and its ETag; None when there is none."""
        answer = self._request("GET", key, missing=True)
        return None if answer is None else (answer.body, answer.headers.get("etag", ""))

    def put(self, key: str, data: bytes, if_none_match: bool = False, if_match: str | None = None) -> str:
        """Write an object; returns its ETag. Raises Conflict when the condition does not hold.

        A write whose answer was lost is repeated, so a Conflict may be with its own first try: read the object then.
        """
        conditions = {"if-none-match": "*"} if if_none_match else {"if-match": if_match} if if_match else {}
        answer = self._request("PUT", key, data=data, headers=conditions)
        assert answer is not None  # noqa: S101 - only a GET may miss
        return answer.headers.get("etag", "")

    def delete(self, key: str) -> None:
        """Remove an object, which may be gone already."""
        self._request("DELETE", key, missing=True)

    def create(self) -> None:
        """Create the bucket. Raises FileExistsError if it exists and belongs to this account."""
        place = f'<CreateBucketConfiguration xmlns="{_NAMESPACE}"><LocationConstraint>{self.region}'
        place += "</LocationConstraint></CreateBucketConfiguration>"
        try:
            self._request("PUT", "", data=b"" if self.region == "us-east-1" else place.encode())
        except Refused as error:
            if error.reason in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise FileExistsError(self.name) from None
            raise

    def check(self) -> None:
        """Raises HostError unless the bucket exists and may be listed."""
        self._page("", 1, "")

    def any(self, prefix: str) -> bool:
        """Whether any object is under the prefix, except probes of an earlier check."""
        return any(not one.key.startswith(f"{prefix}.probe-") for one in self.list(prefix))

    def versioned(self) -> bool:
        """Whether the bucket keeps old versions of overwritten and deleted objects."""
        return _element(self._setting("versioning"), "Status") == "Enabled"

    def locked(self) -> bool:
        """Whether objects of the bucket can be locked against deletion."""
        return _element(self._setting("object-lock"), "ObjectLockEnabled") == "Enabled"

    def _setting(self, name: str) -> ElementTree.Element:
        try:
            answer = self._request("GET", "", query={name: ""})
        except Refused as error:
            if error.status == 404 and error.reason != "NoSuchBucket":
                return parse_xml(b"")
            raise
        return parse_xml(answer.body if answer else b"")

    def list(self, prefix: str, after: str = "") -> Objects:
        """Every object under the prefix whose key comes after `after`, by key."""
        objects, token = self._page(prefix, 1000, "", after)
        while token:
            more, token = self._page(prefix, 1000, token)
            objects += more
        return objects

    def first(self, prefix: str, after: str = "") -> Object | None:
        """The first object under the prefix whose key comes after `after`; None without any."""
        return next(iter(self._page(prefix, 1, "", after)[0]), None)

    def _page(self, prefix: str, most: int, token: str, after: str = "") -> tuple[Objects, str]:
        query = {"list-type": "2", "prefix": prefix, "max-keys": str(most), "encoding-type": "url"}
        query |= {name: value for name, value in (("continuation-token", token), ("start-after", after)) if value}
        answer = self._request("GET", "", query=query)
        assert answer is not None  # noqa: S101 - a listing cannot miss
        try:
            return parse_listing(answer.body)
        except ValueError as error:
            what = f"S3 answered {answer.status} without a listing of the bucket: {self._clean(str(error))[:300]}"
            raise Refused(
                what, self.where, "check that backup.endpoint is the address of S3", answer.status, ""
            ) from None

    # ------------------------------------------------------------------------------------------ requests

    def _request(
        self,
        method: str,
        key: str,
        query: Mapping[str, str] | None = None,
        data: bytes = b"",
        headers: Mapping[str, str] | None = None,
        missing: bool = False,
    ) -> Response | None:
        answer = self._send_with_retries(method, key, query or {}, data, headers or {})
        if answer.status // 100 == 2:
            return answer
        reason = _element(parse_xml(answer.body), "Code")
        if missing and answer.status == 404 and reason in ("", "NoSuchKey"):
            return None
        raise self._refusal(method, key, answer, reason)

    def _send_with_retries(
        self, method: str, key: str, query: Mapping[str, str], data: bytes, headers: Mapping[str, str]
    ) -> Response:
        """Send the request; again while the store answers that it is busy."""
        for attempt in range(1, self.tries):
            answer = self._send(method, key, query, data, headers)
            if answer.status not in BUSY:
                return answer
            time.sleep(PAUSE * attempt)
        return self._send(method, key, query, data, headers)

    def _send(
        self, method: str, key: str, query: Mapping[str, str], data: bytes, headers: Mapping[str, str]
    ) -> Response:
        server, path = self._server(), self._root + ("/" + key if key else "" if self._root else "/")
        signed = sign(self._keys, self.region, method, server.authority, path, query, data, time.time())
        target = quoted(path) + ("?" + canonical_query(query) if query else "")
        limits = http.Limits(self.connect, self.total)
        try:
            answer = http.request(server, method, target, body=data, headers={**headers, **signed}, limits=limits)
        except OSError as error:
            raise self._unreachable(error) from None
        self._note_skew(answer)
        return answer

    def _server(self) -> http.Server:
        return http.Server(self.host, self.port, self._trust if self._tls else None)

    @functools.cached_property
    def _trust(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self._ca)
        except OSError as error:
            what = f"the CA of the backup's endpoint cannot be read: {error.strerror}"
            raise HostError(what, str(self._ca), "set backup.ca to a PEM file, and run deploy provision") from None

    def _note_skew(self, answer: Response) -> None:
        with contextlib.suppress(TypeError, ValueError):
            date = email.utils.parsedate_to_datetime(answer.headers.get("date", ""))
            self.skew = date.timestamp() - time.time()

    # ------------------------------------------------------------------------------------------ errors

    def _unreachable(self, error: OSError) -> Unreachable:
        return Unreachable(_connection_fault(error, self.host, self.total), self.where, _UNREACHABLE_FIX)

    def _refusal(self, method: str, key: str, answer: Response, reason: str) -> Refused:
        document = parse_xml(answer.body)
        if answer.status == 412 or reason in ("PreconditionFailed", "ConditionalRequestConflict"):
            return Conflict(f"{key} was changed meanwhile", self.where, "try again", answer.status, reason)
        region = answer.headers.get("x-amz-bucket-region") or _element(document, "Region")
        message = self._clean(_element(document, "Message"))[:300]
        unknown = f"S3 answered {answer.status} {reason} to {method} {key}: {message}", "correct what S3 reports"
        what, fix = self._explanation(method, key, reason, region) or unknown
        return Refused(what, self.where, fix, answer.status, reason)

    def _explanation(self, method: str, key: str, reason: str, region: str) -> tuple[str, str] | None:
        if reason in _KEY_ERRORS:
            return _KEY_ERRORS[reason], "correct the value of the secrets that backup names, and run deploy provision"
        if reason == "AccessDenied":
            what = f"the backup's key may not {method} {key or 'the bucket'}"
            return what, "give its policy GetObject, PutObject, DeleteObject and ListBucket on the bucket"
        if reason == "NoSuchBucket":
            return f"there is no bucket {self.name}", "deploy backup create-bucket"
        if reason == "RequestTimeTooSkewed":
            return f"this host's clock is {self._skew_text()} the store's", "correct the host's clock: timedatectl"
        if reason in _REDIRECTS:
            return self._redirection(region)
        return None

    def _redirection(self, region: str) -> tuple[str, str]:
        if region and region != self.region:
            what = f"the bucket {self.name} is in the region {region}, not in {self.region}"
            return what, f"set backup.region: {region}, and run deploy provision"
        what = f"the bucket {self.name} belongs to another endpoint"
        return what, "correct backup.region and backup.endpoint, and run deploy provision"

    def _skew_text(self) -> str:
        seconds = self.skew or 0.0
        return f"{abs(seconds):.0f} s {'behind' if seconds > 0 else 'ahead of'}"

    def _clean(self, text: str) -> str:
        for key in self._keys:
            text = text.replace(key, "...") if key else text
        return text


_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_UNREACHABLE_FIX = "check that the store is running and that the host can reach it: deploy backup check"
_REDIRECTS = frozenset(
    {"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)
_KEY_ERRORS = {
    "InvalidAccessKeyId": "the store does not know the backup's access key",
    "SignatureDoesNotMatch": "the backup's secret access key is wrong: the signature does not match",
    "ExpiredToken": "the backup's key has expired",
}


def _connection_fault(error: OSError, host: str, total: float) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {host} is not trusted: {error.verify_message}"
    if isinstance(error, socket.gaierror):
        return f"the name {host} does not resolve: {error.strerror}"
    if isinstance(error, TimeoutError):
        return f"S3 did not answer in time ({host})"
    if isinstance(error, ConnectionRefusedError):
        return f"nothing listens at {host}: the connection was refused"
    return f"S3 closed the connection, or did not answer within {total:g} s: {type(error).__name__}"


def _address(backup: Backup) -> tuple[bool, str, int, str]:
    """Whether TLS is used, the host, the port, and the path of the bucket."""
    suffix = "amazonaws.com.cn" if backup.region.startswith("cn-") else "amazonaws.com"
    endpoint = backup.endpoint or f"https://s3.{backup.region}.{suffix}"
    parts = urllib.parse.urlsplit(endpoint)
    tls, host, root = parts.scheme != "http", parts.hostname or "", parts.path.rstrip("/")
    port = parts.port or (443 if tls else 80)
    # a dot in the bucket's name would not match the wildcard of the store's certificate
    if backup.path_style or (tls and "." in backup.bucket):
        return tls, host, port, f"{root}/{backup.bucket}"
    return tls, f"{backup.bucket}.{host}", port, root


# ---------------------------------------------------------------------------------------------- signature


def quoted(path: str) -> str:
    """A path as S3 signs it: every byte encoded but the unreserved ones and the slash."""
    return urllib.parse.quote(path, safe="/-_.~")


def canonical_query(query: Mapping[str, str]) -> str:
    """The query as S3 signs it: encoded, by name."""
    pairs = sorted((urllib.parse.quote(n, safe="-_.~"), urllib.parse.quote(v, safe="-_.~")) for n, v in query.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


def sign(
    keys: Credentials,
    region: str,
    method: str,
    host: str,
    path: str,
    query: Mapping[str, str],
    data: bytes,
    now: float,
) -> dict[str, str]:
    """The headers, Host excepted, of a request signed with AWS Signature Version 4 at `now` (epoch seconds)."""
    at = compact(now)
    digest = hashlib.sha256(data).hexdigest()
    headers = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": at}
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    canonical = "\n".join((method, quoted(path), canonical_query(query), lines, names, digest))
    scope = f"{at[:8]}/{region}/s3/aws4_request"
    text = "\n".join(("AWS4-HMAC-SHA256", at, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    signature = hmac.new(_key(keys, at[:8], region), text.encode(), hashlib.sha256).hexdigest()
    credential = f"{keys.access_key_id}/{scope}"
    authorization = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
    return {"x-amz-content-sha256": digest, "x-amz-date": at, "authorization": authorization}


def _key(keys: Credentials, day: str, region: str) -> bytes:
    key = f"AWS4{keys.secret_access_key}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


# ---------------------------------------------------------------------------------------------- answers


class _NoDocumentType(ElementTree.TreeBuilder):
    """S3 sends no document type: without one there is no entity to expand or to fetch."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ElementTree.ParseError(f"a document type: {name}")


def parse_xml(body: bytes) -> ElementTree.Element:
    """The root of an XML document; an empty element for any other body."""
    try:
        return ElementTree.fromstring(body, ElementTree.XMLParser(target=_NoDocumentType()))  # noqa: S314 - see S405
    except (ElementTree.ParseError, ValueError, LookupError):  # the last two: an encoding that is not supported
        return ElementTree.Element("")


def _element(within: ElementTree.Element, name: str) -> str:
    """The text of the first element of that name, in any namespace; "" without any."""
    return within.findtext(f".//{{*}}{name}") or ""


def parse_listing(body: bytes) -> tuple[Objects, str]:
    """The objects of a page of ListObjectsV2 (keys URL-encoded), and the token of the next page ("": none).

    Raises ValueError for anything that is no such page.
    """
    root = parse_xml(body)
    if root.tag.rpartition("}")[2] != "ListBucketResult":
        raise ValueError(f"a listing was expected, not {root.tag or 'a body that is not XML'}")
    objects = [_object(entry) for entry in root.findall("{*}Contents")]
    more = _element(root, "IsTruncated") == "true"
    return objects, _element(root, "NextContinuationToken") if more else ""


def _object(entry: ElementTree.Element) -> Object:
    modified = datetime.datetime.fromisoformat(_element(entry, "LastModified"))
    return Object(urllib.parse.unquote_plus(_element(entry, "Key")), int(_element(entry, "Size")), modified.timestamp())
