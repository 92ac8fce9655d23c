"""The services beside the host: S3 (SeaweedFS), ACME (Pebble) and the DNS that ACME asks."""

from __future__ import annotations

import configparser
import io
import json
import secrets
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from homeport.core.errors import HomeportError
from homeport.sandbox import durable
from homeport.sandbox.model import (
    ACME_MANAGEMENT_PORT,
    ACME_PORT,
    BUCKET,
    DNS_PORT,
    REGION,
    S3_PORT,
    S3_TLS_PORT,
    Sandbox,
)
from hostctl.common.net import http

ENCRYPTION_KEY = "homeport_encryption_key"


@dataclass(frozen=True)
class Service:
    """A program that runs in the services' network namespace, and the variables added to its environment."""

    name: str
    argv: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


def all_of(sandbox: Sandbox) -> list[Service]:
    """Every service of a sandbox, in the order in which they are started."""
    return [_s3(sandbox), _dns(sandbox), _acme(sandbox)]


def _s3(sandbox: Sandbox) -> Service:
    data, bound = sandbox.machine / "s3", sandbox.services_address
    options = {
        "dir": data,
        "ip": bound,
        "ip.bind": bound,
        "s3": "true",
        "s3.port": S3_PORT,
        "s3.port.https": S3_TLS_PORT,
        "s3.cert.file": sandbox.machine / "services.pem",
        "s3.key.file": sandbox.machine / "services.key",
        "s3.config": sandbox.machine / "s3.json",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.localSocket": data / "s3.sock",
        "filer.localSocket": data / "filer.sock",
        "master.telemetry": "false",
        "master.electionTimeout": "1s",
        "master.volumeSizeLimitMB": 64,
        "volume.max": 400,
        "volume.preStopSeconds": 0,
    }
    weed = str(sandbox.machine / "weed")
    return Service("s3", (weed, "server", *(f"-{name}={value}" for name, value in options.items())))


def _dns(sandbox: Sandbox) -> Service:
    bound = sandbox.services_address
    listen = ("-dns01", f"{bound}:{DNS_PORT}", "-management", f"{bound}:8055")
    off = ("-http01", "", "-https01", "", "-tlsalpn01", "")
    answers = ("-defaultIPv4", sandbox.address, "-defaultIPv6", "")
    return Service("dns", ("pebble-challtestsrv", *listen, *off, *answers))


def _acme(sandbox: Sandbox) -> Service:
    dns = f"{sandbox.services_address}:{DNS_PORT}"
    argv = ("pebble", "-config", str(sandbox.machine / "pebble.json"), "-dnsserver", dns)
    # without Pebble's random delays and refusals
    return Service("acme", argv, {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"})


def prepare(sandbox: Sandbox) -> None:
    """Write the services' configuration, keys and certificates."""
    (sandbox.machine / "s3").mkdir()
    from homeport.sandbox import certificates  # slow to load, and only a new sandbox needs it

    issued = certificates.issue(sandbox.services_address)
    durable.write(sandbox.ca, issued.ca)
    durable.write(sandbox.machine / "services.pem", issued.certificate)
    durable.write(sandbox.machine / "services.key", issued.key, 0o600)
    durable.write_json(sandbox.machine / "pebble.json", _pebble_config(sandbox))
    _write_credentials(sandbox)


def _pebble_config(sandbox: Sandbox) -> dict[str, object]:
    bound = sandbox.services_address
    config = {
        "listenAddress": f"{bound}:{ACME_PORT}",
        "managementListenAddress": f"{bound}:{ACME_MANAGEMENT_PORT}",
        "certificate": str(sandbox.machine / "services.pem"),
        "privateKey": str(sandbox.machine / "services.key"),
        "httpPort": 80,
        "tlsPort": 443,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": False,
    }
    return {"pebble": config}


def _write_credentials(sandbox: Sandbox) -> None:
    access, secret = secrets.token_hex(10).upper(), secrets.token_urlsafe(30)
    keys = [{"accessKey": access, "secretKey": secret}]
    identity = {"name": "sandbox", "credentials": keys, "actions": ["Admin"]}
    durable.write(sandbox.machine / "s3.json", json.dumps({"identities": [identity]}), 0o600)
    shared = configparser.ConfigParser()
    shared["default"] = {
        "aws_access_key_id": access,
        "aws_secret_access_key": secret,
        "region": REGION,
        # the key of an encrypted backup; AWS clients ignore it
        ENCRYPTION_KEY: secrets.token_urlsafe(30),
    }
    text = io.StringIO()
    shared.write(text)
    durable.write(sandbox.credentials, text.getvalue(), 0o600)


def read_credentials(path: Path) -> tuple[str, str]:
    """Access key and secret key of a shared credentials file."""
    shared = configparser.ConfigParser(interpolation=None)
    shared.read(path)
    return shared["default"]["aws_access_key_id"], shared["default"]["aws_secret_access_key"]


def read_encryption_key(path: Path) -> str:
    """The encryption key of a shared credentials file. Raises KeyError if a sandbox of an older version has none."""
    shared = configparser.ConfigParser(interpolation=None)
    shared.read(path)
    return shared["default"][ENCRYPTION_KEY]


def make_bucket(sandbox: Sandbox, within: float = 60.0) -> None:
    """Create the bucket as soon as S3 answers. Raises HomeportError after `within` seconds."""
    from botocore.exceptions import BotoCoreError, ClientError

    client = _s3_client(sandbox)
    deadline = time.monotonic() + within
    while True:
        try:
            with suppress(client.exceptions.BucketAlreadyOwnedByYou):
                client.create_bucket(Bucket=BUCKET)
            # the gateway answers before a volume is writable, so an object is written as well
            client.put_object(Bucket=BUCKET, Key=".probe", Body=b"")
            client.delete_object(Bucket=BUCKET, Key=".probe")
            return
        except (BotoCoreError, ClientError) as error:
            _wait_or_fail(sandbox, "s3", error, deadline)


def _s3_client(sandbox: Sandbox) -> Any:
    import boto3
    from botocore.config import Config

    access, secret = read_credentials(sandbox.credentials)
    style = Config(s3={"addressing_style": "path"})
    limits = Config(retries={"max_attempts": 0}, connect_timeout=1, read_timeout=5)
    return boto3.client(
        "s3",
        endpoint_url=sandbox.endpoint,
        region_name=REGION,
        aws_access_key_id=access,
        aws_secret_access_key=secret,
        config=style.merge(limits),
    )


def fetch_root(sandbox: Sandbox, within: float = 30.0) -> None:
    """Store the current root certificate of Pebble, which creates a new one at each start."""
    context = ssl.create_default_context(cafile=str(sandbox.ca))
    server = http.Server(sandbox.services_address, ACME_MANAGEMENT_PORT, context)
    deadline = time.monotonic() + within
    while True:
        try:
            answer = http.request(server, "GET", "/roots/0", limits=http.Limits(2.0, 2.0))
            if answer.status == 200:
                durable.write(sandbox.root, answer.body.decode())
                return
            raise OSError(f"it answers {answer.status}")
        except OSError as error:
            _wait_or_fail(sandbox, "acme", error, deadline)


def _wait_or_fail(sandbox: Sandbox, service: str, error: Exception, deadline: float) -> None:
    if time.monotonic() > deadline:
        log = sandbox.directory / "logs" / f"{service}.log"
        what = f"the sandbox's {service} service does not answer: {error}"
        raise HomeportError(what, str(log), f"less {log}") from error
    time.sleep(0.1)
