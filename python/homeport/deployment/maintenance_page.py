"""The page that visitors see in the place of the app: the team's own, deploy/maintenance.html, or a plain one."""

from __future__ import annotations

import html
import ipaddress
from pathlib import Path

from homeport.core.errors import ExitCode, HomeportError

# beside deploy.yml
OWN = Path("deploy") / "maintenance.html"
DEFAULT = Path(__file__).parents[1] / "docs" / "maintenance.html"
MESSAGE, RETRY_AFTER = "{{ message }}", "{{ retry_after }}"
SAYS = "The site is being worked on and will be back shortly."
MOST_BYTES = 1 << 20


def page(root: Path, message: str, retry_after: int) -> str:
    """The whole page, in HTML. Raises HomeportError (usage) for a page of the team's that cannot be shown."""
    own = (root / OWN).exists()
    text = _read(root / OWN) if own else DEFAULT.read_text()
    if own and message and MESSAGE not in text:
        what = f"the page has no place for a message: it says {MESSAGE} nowhere"
        raise _refused(what, f"write {MESSAGE} where it belongs, or leave --message out")
    return filled(text, message, retry_after)


def filled(text: str, message: str, retry_after: int) -> str:
    """The page with what it shows: the message as text, whatever is in it, and the seconds until the next try."""
    shown = html.escape(message or SAYS)
    # the seconds first: a message that spells their place is none
    return text.replace(RETRY_AFTER, str(retry_after)).replace(MESSAGE, shown)


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise _refused(f"the page cannot be read: {(error.strerror or str(error)).lower()}", "mend the file") from None
    except UnicodeDecodeError:
        raise _refused("the page is not UTF-8", "save the file as UTF-8") from None
    if not text.strip() or len(data) > MOST_BYTES:
        raise _refused("the page is empty, or larger than 1 MiB", "mend the file, or take it away")
    return text


def _refused(what: str, fix: str) -> HomeportError:
    return HomeportError(what, str(OWN), fix, ExitCode.USAGE)


def address(text: str) -> str:
    """An address as the edge writes it: RFC 5952, and IPv4 where it is one. Raises ValueError for any other text."""
    found = ipaddress.ip_address(text)
    found = getattr(found, "ipv4_mapped", None) or found
    if found.is_loopback or found.is_unspecified or getattr(found, "scope_id", None):
        raise ValueError(f"no visitor comes from {text}")
    return str(found)
