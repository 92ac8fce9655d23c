"""One POST to a receiver of notices, and what it answered. The URL is a secret: nothing here repeats it."""

from __future__ import annotations

import re
import socket
import ssl
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from hostctl.common import http
from hostctl.common.message import Post

TIMEOUT = 10.0  # seconds for a connection, and for the answer
ANSWER = 300  # characters of an answer that are kept
LIMITS = http.Limits(TIMEOUT, TIMEOUT, body=4 * ANSWER, whole=False)
MARK = "[URL]"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
# a receiver that is busy, or that answers so for a while only; any other 4xx will not change by itself
AGAIN = (408, 425, 429)


class Delivery(NamedTuple):
    """What came of a POST: `status` 0 without an answer, and then `text` says why."""

    status: int
    text: str

    @property
    def taken(self) -> bool:
        return 200 <= self.status < 300

    @property
    def final(self) -> bool:
        """Whether to ask again would tell nothing new. A redirect is not followed: it may lead anywhere."""
        return self.taken or (300 <= self.status < 500 and self.status not in AGAIN)


def mistake(url: str) -> str:
    """Why this is no URL to send to; "" if it is one. Does not repeat it."""
    expected = "must be a URL that begins with https:// (http:// for this host itself, as http://localhost:8080/topic)"
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return expected
    if not named or not re.fullmatch(r"[!-~]{1,2000}", url) or parts.username is not None:
        return expected
    plain = parts.scheme == "http" and parts.hostname in LOOPBACK
    return "" if parts.scheme == "https" or plain else expected


def send(url: str, what: Post, context: ssl.SSLContext | None = None) -> Delivery:
    """POST to the URL, the certificate checked against the system's authorities.

    Never raises for what the way there brings.
    """
    parts = urlsplit(url)
    try:
        headers = {"User-Agent": "homeport", **what.headers}
        answer = http.request(
            _server(parts, context), "POST", _target(parts), body=what.body, headers=headers, limits=LIMITS
        )
        return Delivery(answer.status, without(url, shortened(answer.body.decode(errors="replace"))))
    except OSError as error:
        return Delivery(0, without(url, why(error)))


def _server(parts: SplitResult, context: ssl.SSLContext | None) -> http.Server:
    host = parts.hostname or ""
    if parts.scheme == "http":
        return http.Server(host, parts.port or 80)
    return http.Server(host, parts.port or 443, context or ssl.create_default_context())


def _target(parts: SplitResult) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def why(error: OSError) -> str:
    """Why there is no answer, as a person says it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    if isinstance(error, socket.gaierror):
        return "its name does not resolve"
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT:g} s"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def shortened(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"[^\x20-\x7e\xa0-\uffff]", " ", text)).strip()[:ANSWER]


def without(url: str, text: str) -> str:
    """The text without the URL, and without the parts of it that make it one that nobody guesses."""
    parts = urlsplit(url)
    words = [word for part in (parts.path, parts.query) for word in re.split(r"[/&=?]", part) if len(word) >= 4]
    spoken = {url, url.removeprefix("https:"), _target(parts), *words, *map(unquote, words)}
    for each in sorted((one for one in spoken if len(one) >= 4), key=len, reverse=True):
        text = text.replace(each, MARK)
    return text
