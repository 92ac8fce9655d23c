"""The maintenance page: the project's own, deploy/maintenance.html, or a plain one."""

from __future__ import annotations

import html
import ipaddress
from pathlib import Path

from homeport.core.errors import ExitCode, HomeportError

# beside deploy.yml
PROJECT_PAGE = Path("deploy") / "maintenance.html"
DEFAULT_PAGE = Path(__file__).parents[1] / "docs" / "maintenance.html"
MESSAGE, RETRY_AFTER = "{{ message }}", "{{ retry_after }}"
DEFAULT_MESSAGE = "The site is being worked on and will be back shortly."
MOST_BYTES = 1 << 20


def page(root: Path, message: str, retry_after: int) -> str:
    """The page in HTML. Raises HomeportError (usage) if the project's own page cannot be used."""
    own = (root / PROJECT_PAGE).exists()
    text = _read(root / PROJECT_PAGE) if own else DEFAULT_PAGE.read_text()
    if own and message and MESSAGE not in text:
        what = f"the page has no place for a message: it does not contain {MESSAGE}"
        raise _usage_error(what, f"add {MESSAGE} to the page, or omit --message")
    return fill(text, message, retry_after)


def fill(text: str, message: str, retry_after: int) -> str:
    """The page with the escaped message and the seconds until the next try fill in."""
    shown = html.escape(message or DEFAULT_MESSAGE)
    # the seconds first, so that the placeholder is not replaced inside a message
    return text.replace(RETRY_AFTER, str(retry_after)).replace(MESSAGE, shown)


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise _usage_error(
            f"the page cannot be read: {(error.strerror or str(error)).lower()}", "repair the file"
        ) from None
    except UnicodeDecodeError:
        raise _usage_error("the page is not UTF-8", "save the file as UTF-8") from None
    if not text.strip() or len(data) > MOST_BYTES:
        raise _usage_error("the page is empty, or larger than 1 MiB", "correct the file, or remove it")
    return text


def _usage_error(what: str, fix: str) -> HomeportError:
    return HomeportError(what, str(PROJECT_PAGE), fix, ExitCode.USAGE)


def address(text: str) -> str:
    """An IP address in the form that the edge logs: RFC 5952, IPv4 for a mapped one. Raises ValueError for other text,
    and for an address that no visitor can have.
    """
    parsed = ipaddress.ip_address(text)
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    if parsed.is_loopback or parsed.is_unspecified or getattr(parsed, "scope_id", None):
        raise ValueError(f"no visitor comes from {text}")
    return str(parsed)
