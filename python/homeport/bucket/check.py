"""Checks from this machine whether the backup's bucket can hold a backup, before the host is changed, and creates it.

The client uses deploy.yml and nothing else: no profile, no AWS_CA_BUNDLE, no endpoint of the environment.
"""

from __future__ import annotations

import os
import secrets as random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from math import ceil
from typing import Any

from pydantic import SecretStr

from homeport.bucket import errors
from homeport.config.database import Backup
from homeport.config.layers import Loaded
from homeport.config.secret_names import BUCKET_KEYS, backup_names
from homeport.config.values import DAY_SECONDS
from homeport.core.errors import ExitCode, HomeportError
from homeport.secrets.resolve import backup_secrets
from hostctl.common.documents import Json

Keys = Mapping[str, SecretStr | None]

CONNECT_SECONDS, READ_SECONDS = 5, 20
# S3 refuses requests at a difference of 15 minutes; a clock that is a minute off may reach that
SKEW_SECONDS = 60.0
# a probe of a killed check is older than this; a younger one may belong to a running check
PROBE_LIFETIME = timedelta(minutes=5)


@dataclass(frozen=True)
class Store:
    """The bucket as the configuration names it, and a client for it."""

    loaded: Loaded
    client: Any

    @property
    def backup(self) -> Backup:
        return self.loaded.config.backup

    @property
    def bucket(self) -> str:
        assert self.backup.bucket  # noqa: S101 - _store has refused anything else
        return self.backup.bucket

    def ask(self, request: str, call: str, **more: Any) -> Json:
        """The store's answer to one call. `request` completes "may not …" in an error. Raises HomeportError."""
        with self.translating_errors(request):
            answer: Json = getattr(self.client, call)(Bucket=self.bucket, **more)
            return answer

    @contextmanager
    def translating_errors(self, request: str) -> Iterator[None]:
        """Turns errors of the client into a HomeportError with a fix."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise errors.from_boto(error, self.loaded, request) from None


def check(loaded: Loaded, keys: Keys | None = None) -> list[str]:
    """List the bucket, and write, read and delete an object there; returns warnings.

    Raises HomeportError for a bucket that cannot hold a backup, UnreachableError if the store does not answer this
    machine. Without `keys` the configuration's are used.
    """
    store = _store(loaded, keys)
    listed = store.ask("list it", "list_objects_v2", Prefix=_probe(store, ""), MaxKeys=100)
    _check_region(store, listed)
    _remove_old_probes(store, listed)
    _write_and_remove(store)
    return [*_clock(listed), *_require_features(store)]


def create(loaded: Loaded, keys: Keys | None = None) -> list[str]:
    """Create the bucket with versioning, and with object lock if backup.require asks for it; returns what was done.

    A bucket that is not empty stays as it is. Ends with `check`, and raises HomeportError as it does.
    """
    store = _store(loaded, keys)
    done = [] if _is_filled(store) else [*_create_bucket(store), *_keep_versions(store), *_lock(store)]
    return [*(done or [f"the bucket {store.bucket} exists already, and stays as it is"]), *check(loaded, keys)]


def _store(loaded: Loaded, keys: Keys | None) -> Store:
    names = backup_names(loaded.config)
    if not names:
        what = "no backup is configured, so no bucket is needed"
        raise HomeportError(what, "backup in deploy.yml", "set database.engine and backup.bucket", ExitCode.USAGE)
    keys = keys or backup_secrets(loaded, os.environ)
    if missing := [names[key] for key in BUCKET_KEYS if keys[key] is None]:
        what = f"the backup's keys are not given: {' and '.join(missing)}"
        fix = f"export {' '.join(missing)}, or deploy secrets set NAME"
        raise HomeportError(what, "environment", fix, ExitCode.USAGE)
    return Store(loaded, _client(loaded, {key: value.get_secret_value() for key, value in keys.items() if value}))


def _client(loaded: Loaded, keys: Mapping[str, str]) -> Any:
    import boto3
    import botocore.session
    from botocore.config import Config

    backup = loaded.config.backup
    # the settings and keys of the AWS CLI are not used
    no_files = dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))
    plain = botocore.session.Session(session_vars={**no_files, "profile": (None, None, None, None)})
    config = Config(
        s3={"addressing_style": "path" if backup.path_style else "virtual"},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"total_max_attempts": 2, "mode": "standard"},
        ignore_configured_endpoint_urls=True,
        # other stores refuse the checksums that newer AWS clients send by default
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return boto3.Session(botocore_session=plain).client(
        "s3",
        endpoint_url=backup.endpoint,
        region_name=backup.region,
        aws_access_key_id=keys["access_key_id"],
        aws_secret_access_key=keys["secret_access_key"],
        verify=str(loaded.path(backup.ca)) if backup.ca else True,
        config=config,
    )


def _probe(store: Store, name: str) -> str:
    return f"{store.backup.prefix}/.probe-{name}"


def _check_region(store: Store, listed: Json) -> None:
    """Raises HomeportError for a bucket in another region. boto3 follows a redirect; Litestream and hostctl do not."""
    region = listed["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", store.backup.region)
    if region != store.backup.region:
        raise errors.wrong_region(store.loaded, region)


def _remove_old_probes(store: Store, listed: Json) -> None:
    for probe in listed.get("Contents", []):
        if probe["LastModified"] < datetime.now(UTC) - PROBE_LIFETIME:
            store.ask("remove from it", "delete_object", Key=probe["Key"])


def _write_and_remove(store: Store) -> None:
    key, body = _probe(store, random.token_hex(8)), random.token_bytes(64)
    store.ask("write to it", "put_object", Key=key, Body=body, IfNoneMatch="*")
    try:
        with store.translating_errors("read from it"):
            read = store.client.get_object(Bucket=store.bucket, Key=key)["Body"].read()
        if read != body:
            raise errors.unusable_bucket(store.loaded, "returns other bytes than were written", "use another store")
        _check_conditional_writes(store, key)
    finally:
        store.ask("remove from it", "delete_object", Key=key)


def _check_conditional_writes(store: Store, key: str) -> None:
    """Raises HomeportError if the store has no conditional writes, which a change of the object CURRENT needs."""
    from botocore.exceptions import ClientError

    try:
        store.client.put_object(Bucket=store.bucket, Key=key, Body=b"", IfNoneMatch="*")
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 412:
            return
        raise errors.from_boto(error, store.loaded, "write to it on a condition") from None
    what = "has no conditional writes (If-None-Match), without which two hosts could damage one backup"
    raise errors.unusable_bucket(store.loaded, what, "use a store that has them, or a newer version of this one")


def _clock(listed: Json) -> list[str]:
    date = listed["ResponseMetadata"]["HTTPHeaders"].get("date")
    ahead = (datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds() if date else 0.0
    if abs(ahead) < SKEW_SECONDS:
        return []
    direction = "ahead of" if ahead > 0 else "behind"
    return [f"the clock of this machine is {abs(ahead):.0f} s {direction} the store's; at 900 s the store refuses"]


def _require_features(store: Store) -> list[str]:
    require = store.backup.require
    if "versioning" in require or "object_lock" in require:
        versioning = store.ask("read its versioning", "get_bucket_versioning")
        if versioning.get("Status") != "Enabled":
            raise errors.missing_feature(store.loaded, "has no versioning", "versioning")
    return _require_lock(store) if "object_lock" in require else []


def _require_lock(store: Store) -> list[str]:
    lock = _lock_of(store)
    if lock is None:
        raise errors.missing_feature(store.loaded, "has no object lock", "object_lock")
    what = "has object lock without a default retention: new objects are not locked"
    return [] if "Rule" in lock else [f"the bucket {store.bucket} {what}"]


def _lock_of(store: Store) -> Json | None:
    request, none = "read its object lock", "ObjectLockConfigurationNotFoundError"
    lock: Json = _setting(store, request, none, "get_object_lock_configuration").get("ObjectLockConfiguration", {})
    return lock if lock.get("ObjectLockEnabled") == "Enabled" else None


def _setting(store: Store, request: str, none: str, call: str) -> Json:
    """A setting of the bucket; empty if it is not set: the store answers with the error code `none` then."""
    from botocore.exceptions import ClientError

    with store.translating_errors(request):
        try:
            setting: Json = getattr(store.client, call)(Bucket=store.bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] != none:
                raise
            return {}
    return setting


def _is_filled(store: Store) -> bool:
    try:
        return bool(store.ask("list it", "list_objects_v2", MaxKeys=1).get("Contents"))
    except errors.NoBucketError:
        return False


def _create_bucket(store: Store) -> list[str]:
    """Create the bucket, or accept an existing empty one, which a killed run may have left."""
    more: Json = {"ObjectLockEnabledForBucket": True} if "object_lock" in store.backup.require else {}
    if store.backup.region != "us-east-1" and store.backup.endpoint is None:
        more["CreateBucketConfiguration"] = {"LocationConstraint": store.backup.region}
    with store.translating_errors("create it"):
        try:
            store.client.create_bucket(Bucket=store.bucket, **more)
        except store.client.exceptions.BucketAlreadyOwnedByYou:
            return [f"the bucket {store.bucket} exists and is empty"]
    return [f"created the bucket {store.bucket}"]


def _days(store: Store) -> int:
    return ceil(store.backup.retention / DAY_SECONDS)


def _keep_versions(store: Store) -> list[str]:
    """Set versioning with an expiry; otherwise old versions of the objects that Litestream merges would pile up."""
    store.ask("set versioning", "put_bucket_versioning", VersioningConfiguration={"Status": "Enabled"})
    request, none = "read its lifecycle rules", "NoSuchLifecycleConfiguration"
    if _setting(store, request, none, "get_bucket_lifecycle_configuration").get("Rules"):
        return ["old versions of objects stay as long as the bucket's lifecycle rules say"]
    rule = {
        "ID": "homeport",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "NoncurrentVersionExpiration": {"NoncurrentDays": _days(store)},
        "Expiration": {"ExpiredObjectDeleteMarker": True},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
    }
    rules = {"Rules": [rule]}
    store.ask("set its lifecycle rules", "put_bucket_lifecycle_configuration", LifecycleConfiguration=rules)
    return [f"old versions of objects stay for {_days(store)} days more"]


def _lock(store: Store) -> list[str]:
    if "object_lock" not in store.backup.require:
        return []
    retention = {"Mode": "GOVERNANCE", "Days": _days(store)}
    lock = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": retention}}
    store.ask("set its object lock", "put_object_lock_configuration", ObjectLockConfiguration=lock)
    return [f"nothing can be removed for good within {_days(store)} days (object lock, governance)"]
