"""Sends a notice by one POST and reads the answer. The URL is a secret: no text from here repeats it."""

from __future__ import annotations

import re
import socket
import ssl
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from hostctl.common.message import Post
from hostctl.common.net import http

TIMEOUT = 10.0  # seconds for a connection, and for the answer
ANSWER = 300  # characters of an answer that are kept
LIMITS = http.Limits(TIMEOUT, TIMEOUT, body=4 * ANSWER, whole=False)
MARK = "[URL]"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
# statuses of a receiver that may accept the same request later; any other 4xx is final
AGAIN = (408, 425, 429)


class Delivery(NamedTuple):
    """The answer to a POST; `status` is 0 without one, and then `text` is the reason."""

    status: int
    text: str

    @property
    def accepted(self) -> bool:
        """Whether the receiver accepted the notice."""
        return 200 <= self.status < 300

    @property
    def final(self) -> bool:
        """Whether another try is useless. A redirect is final too: it may lead anywhere, so it is not followed."""
        return self.accepted or (300 <= self.status < 500 and self.status not in AGAIN)


def mistake(url: str) -> str:
    """Why a URL is not valid for a receiver; "" if it is. The text does not repeat it."""
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


def send(url: str, post: Post, context: ssl.SSLContext | None = None) -> Delivery:
    """POST to the URL; the certificate is checked against the system's authorities. An OSError becomes the answer."""
    parts = urlsplit(url)
    try:
        headers = {"User-Agent": "homeport", **post.headers}
        answer = http.request(
            _server(parts, context), "POST", _target(parts), body=post.body, headers=headers, limits=LIMITS
        )
        return Delivery(answer.status, redact_url(url, shortened(answer.body.decode(errors="replace"))))
    except OSError as error:
        return Delivery(0, redact_url(url, why(error)))


def _server(parts: SplitResult, context: ssl.SSLContext | None) -> http.Server:
    host = parts.hostname or ""
    if parts.scheme == "http":
        return http.Server(host, parts.port or 80)
    return http.Server(host, parts.port or 443, context or ssl.create_default_context())


def _target(parts: SplitResult) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def why(error: OSError) -> str:
    """Why there is no answer, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    if isinstance(error, socket.gaierror):
        return "its name does not resolve"
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT:g} s"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def shortened(text: str) -> str:
    """The printable characters of an answer on one line, at most ANSWER."""
    return re.sub(r"\s+", " ", re.sub(r"[^\x20-\x7e\xa0-\uffff]", " ", text)).strip()[:ANSWER]


def redact_url(url: str, text: str) -> str:
    """The text without the URL, and without the secret parts of its path and query."""
    parts = urlsplit(url)
    words = [word for part in (parts.path, parts.query) for word in re.split(r"[/&=?]", part) if len(word) >= 4]
    secrets = {url, url.removeprefix("https:"), _target(parts), *words, *map(unquote, words)}
    for secret in sorted((secret for secret in secrets if len(secret) >= 4), key=len, reverse=True):
        text = text.replace(secret, MARK)
    return text
