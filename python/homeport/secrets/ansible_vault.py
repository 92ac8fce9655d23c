"""A text encrypted by Ansible Vault, with ansible-core's own code: `ansible-vault view` opens the same file.

Format: docs.ansible.com/ansible/latest/vault_guide/vault_using_encrypted_content.html (AES256 in counter mode, PBKDF2,
HMAC-SHA256 over the whole).
"""

from __future__ import annotations

import os
from typing import Any

from homeport.core.packaged_files import content

HEADER = b"$ANSIBLE_VAULT;"


class RefusedError(ValueError):
    """The password does not open it. A changed byte inside looks the same: both fail the HMAC."""


class DamagedError(ValueError):
    """It is not what Ansible Vault writes: cut off, or no longer in its form."""


def is_sealed(data: bytes) -> bool:
    """Whether this claims to be encrypted."""
    return data.startswith(HEADER)


def seal(text: str, password: str) -> bytes:
    """The text encrypted. Never the same bytes twice."""
    return bytes(_library(password).encrypt(text.encode()))


def unseal(data: bytes, password: str) -> str:
    """The text again. Raises RefusedError for a wrong password, DamagedError for what no password opens."""
    library = _library(password)
    from ansible.errors import AnsibleError
    from ansible.parsing.vault import AnsibleVaultFormatError

    try:
        return bytes(library.decrypt(data)).decode()
    except (AnsibleVaultFormatError, ValueError, IndexError):
        raise DamagedError from None
    except AnsibleError as error:
        raise (RefusedError if _opened_by_none(error) else DamagedError) from None


def _opened_by_none(error: Exception) -> bool:
    return "no vault secrets were found that could decrypt" in str(error)


def _library(password: str) -> Any:
    # ansible-core reads its configuration as soon as it is imported: ours, not one of the directory we stand in
    os.environ["ANSIBLE_CONFIG"] = str(content() / "ansible.cfg")
    from ansible.parsing.vault import VaultLib, VaultSecret

    return VaultLib([("default", VaultSecret(password.encode()))])
