"""Translates the errors of an S3 store into Homeport's errors, with a fix for deploy.yml, the keys or the store."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import urlsplit

from homeport.config.layers import Loaded
from homeport.config.secret_names import backup_names
from homeport.core.errors import HomeportError


class NoBucketError(HomeportError):
    """There is no such bucket."""


class UnreachableError(HomeportError):
    """The store does not answer this machine. The host may still reach it."""


def from_boto(error: Exception, loaded: Loaded, request: str) -> HomeportError:
    """The error of boto3 as a HomeportError. `request` completes "may not …", such as "write to it"."""
    from botocore import exceptions

    if isinstance(error, exceptions.ClientError):
        return _from_response(error.response, loaded, request)
    if isinstance(error, exceptions.SSLError):
        return _untrusted_certificate(loaded)
    unreachable = (exceptions.HTTPClientError, exceptions.ConnectionError)
    if isinstance(error, unreachable):
        return _unreachable(loaded, type(error).__name__)
    return _not_a_store(loaded, type(error).__name__)


def unusable_bucket(loaded: Loaded, what: str, fix: str) -> HomeportError:
    """The error for a bucket that exists but cannot be used."""
    return HomeportError(f"{_bucket(loaded)} {what}", _line(loaded, "bucket"), fix)


def missing_feature(loaded: Loaded, what: str, required: str) -> HomeportError:
    """The error for a bucket without a feature that backup.require names."""
    fix = f"set it at the store, create another with {command(loaded)}, or remove {required} from backup.require"
    return HomeportError(f"{_bucket(loaded)} {what}", _line(loaded, "require"), fix)


def wrong_region(loaded: Loaded, found: str | None) -> HomeportError:
    """The error for a bucket in another region; `found` is None if the store does not say which."""
    configured = loaded.config.backup.region
    what = f"is in {found}, not in {configured}" if found else f"is not in {configured}"
    fix = f"set backup.region: {found}" if found else "set backup.region to where the bucket is"
    return HomeportError(f"{_bucket(loaded)} {what}", _line(loaded, "region"), fix)


def command(loaded: Loaded) -> str:
    """The command that creates the bucket."""
    destination = f"-d {loaded.destination} " if loaded.destination else ""
    return f"deploy {destination}backup create-bucket"


def endpoint(loaded: Loaded) -> str:
    """The URL of the store."""
    backup = loaded.config.backup
    return backup.endpoint or f"https://s3.{backup.region}.amazonaws.com"


def _from_response(response: dict[str, Any], loaded: Loaded, request: str) -> HomeportError:
    error, meta = response["Error"], response["ResponseMetadata"]
    code = str(error.get("Code"))
    if code.isdigit() and int(code) < 500:  # an HTTP status instead of an error code of S3
        return _not_a_store(loaded, f"{code} {error.get('Message')}")
    if code == "NoSuchBucket":
        what = f"there is no bucket {loaded.config.backup.bucket} at {endpoint(loaded)}"
        return NoBucketError(what, _line(loaded, "bucket"), command(loaded))
    if code in ("AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"):
        return wrong_region(loaded, error.get("Region") or meta.get("HTTPHeaders", {}).get("x-amz-bucket-region"))
    if code == "BucketAlreadyExists":
        return unusable_bucket(
            loaded, "is somebody else's: such names are the same for all customers", "choose another name"
        )
    return _key_error(code, loaded, request) or _unknown_error(error, meta, loaded, request)


def _key_error(code: str, loaded: Loaded, request: str) -> HomeportError | None:
    names = backup_names(loaded.config)
    access, secret = names["access_key_id"], names["secret_access_key"]
    if code in ("InvalidAccessKeyId", "InvalidToken", "ExpiredToken"):
        return HomeportError(
            f"{endpoint(loaded)} does not know the key in {access}", _key_source(loaded, access), _export_fix(access)
        )
    if code == "SignatureDoesNotMatch":
        what = f"the secret key in {secret} does not belong to the access key in {access}"
        return HomeportError(what, _key_source(loaded, secret), _export_fix(secret))
    if code in ("RequestTimeTooSkewed", "RequestExpired"):
        return HomeportError(
            "the clock of this machine is wrong, so the store refuses", "clock", "timedatectl set-ntp true"
        )
    if code in ("AccessDenied", "AllAccessDisabled"):
        what = f"the key in {access} may not {request}: {_bucket(loaded)}, which may belong to somebody else"
        fix = "give it the rights to list the bucket and to get, put and delete its objects"
        return HomeportError(what, _line(loaded, "bucket"), fix)
    return None


def _unknown_error(error: dict[str, Any], meta: dict[str, Any], loaded: Loaded, request: str) -> HomeportError:
    status = meta.get("HTTPStatusCode", "")
    what = f"{endpoint(loaded)} refused the request to {request}, for {_bucket(loaded)}"
    answer = f"{error.get('Code')}: {error.get('Message', '')}".rstrip(": ")
    fix = "look for the reason in the console of the store"
    return HomeportError(f"{what} ({status} {answer})", _line(loaded, "bucket"), fix)


def _untrusted_certificate(loaded: Loaded) -> HomeportError:
    ca = loaded.config.backup.ca
    if ca:
        what = f"the certificate of {endpoint(loaded)} is not signed by {ca}"
        return HomeportError(what, _line(loaded, "ca"), "set backup.ca to the file of the CA that signed it")
    what = f"the certificate of {endpoint(loaded)} is not signed by a public authority, or is for another name"
    return HomeportError(what, _line(loaded, "endpoint"), "set backup.ca to the file of the CA that signed it")


def _unreachable(loaded: Loaded, why: str) -> HomeportError:
    name = urlsplit(endpoint(loaded)).hostname or ""
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        what = f"the name {name} does not resolve"
        return HomeportError(what, _line(loaded, "endpoint"), "correct backup.endpoint and backup.region")
    what = f"{endpoint(loaded)} does not answer this machine ({why})"
    return UnreachableError(what, _line(loaded, "endpoint"), f"find the reason with: curl -sSI {endpoint(loaded)}")


def _not_a_store(loaded: Loaded, why: str) -> HomeportError:
    what = f"the server at {endpoint(loaded)} is not an S3 store ({why})"
    return HomeportError(what, _line(loaded, "endpoint"), "correct backup.endpoint")


def _bucket(loaded: Loaded) -> str:
    return f"the bucket {loaded.config.backup.bucket}"


def _line(loaded: Loaded, key: str) -> str:
    return f"{loaded.origin[f'backup.{key}']} backup.{key}"


def _key_source(loaded: Loaded, name: str) -> str:
    return str(loaded.credentials or f"environment: {name}")


def _export_fix(name: str) -> str:
    return f"set the right value: export {name}"
