"""Encrypts and decrypts a text by Ansible Vault, with ansible-core's code: `ansible-vault view` opens the same file.

Format: docs.ansible.com/ansible/latest/vault_guide/vault_using_encrypted_content.html (AES256 in counter mode, PBKDF2,
HMAC-SHA256 over the whole).
"""

from __future__ import annotations

import os
from typing import Any

from homeport.core.packaged_files import content

HEADER = b"$ANSIBLE_VAULT;"


class RefusedError(ValueError):
    """The password is wrong, or a byte inside was changed: both fail the HMAC in the same way."""


class DamagedError(ValueError):
    """The data is not in Ansible Vault's format, or is cut off."""


def is_sealed(data: bytes) -> bool:
    """Whether the data begins with the header of Ansible Vault."""
    return data.startswith(HEADER)


def seal(text: str, password: str) -> bytes:
    """The encrypted text. The salt is random, so that the bytes differ each time."""
    return bytes(_library(password).encrypt(text.encode()))


def unseal(data: bytes, password: str) -> str:
    """The decrypted text. Raises RefusedError for a wrong password, DamagedError for damaged data."""
    library = _library(password)
    from ansible.errors import AnsibleError
    from ansible.parsing.vault import AnsibleVaultFormatError

    try:
        return bytes(library.decrypt(data)).decode()
    except (AnsibleVaultFormatError, ValueError, IndexError):
        raise DamagedError from None
    except AnsibleError as error:
        raise (RefusedError if _is_wrong_password(error) else DamagedError) from None


def _is_wrong_password(error: Exception) -> bool:
    return "no vault secrets were found that could decrypt" in str(error)


def _library(password: str) -> Any:
    # ansible-core reads its configuration at import: this one, not one of the current directory
    os.environ["ANSIBLE_CONFIG"] = str(content() / "ansible.cfg")
    from ansible.parsing.vault import VaultLib, VaultSecret

    return VaultLib([("default", VaultSecret(password.encode()))])
