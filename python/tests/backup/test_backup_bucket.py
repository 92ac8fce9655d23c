"""The backup's bucket, asked from the controller: a real store, and answers that only AWS gives."""

# ruff: noqa: E501 - a table of whole messages

from __future__ import annotations

import os
import secrets
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ConnectTimeoutError
from objectstore import Store
from pydantic import SecretStr

from homeport.bucket import check as buckets
from homeport.bucket.errors import NoBucketError, UnreachableError, from_boto
from homeport.config.layers import load
from homeport.core.errors import HomeportError
from homeport.deployment import preflight
from homeport.secrets.resolve import collect

# line 5 is the bucket's; whatever a test adds begins at line 8
BASE = """app: shop
host: 198.51.100.7
domains: [shop.test]
database: {{engine: sqlite}}
backup:
  bucket: {bucket}
  endpoint: {endpoint}
"""

Loader = Callable[..., Any]


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loader:
    """Loads a deploy.yml for a bucket; what is said in a person's own AWS settings must not matter."""
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere/ca.pem")
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")

    def loaded(endpoint: str, bucket: str, more: str = "") -> Any:
        (tmp_path / "deploy.yml").write_text(BASE.format(bucket=bucket, endpoint=endpoint) + more)
        return load(start=tmp_path)

    return loaded


def keys(access: str, secret: str) -> dict[str, SecretStr | None]:
    return {"access_key_id": SecretStr(access), "secret_access_key": SecretStr(secret)}


def of(store: Store) -> dict[str, SecretStr | None]:
    return keys(store.access, store.secret)


def refusal(loaded: Any, given: dict[str, SecretStr | None]) -> HomeportError:
    with pytest.raises(HomeportError) as caught:
        buckets.check(loaded, given)
    return caught.value


def objects(store: Store, bucket: str) -> list[str]:
    return [found.key for found in store.bucket(bucket).list("")]


# a real store


def test_a_good_bucket_passes_and_is_left_as_it_was(store: Store, bucket: str, configured: Loader) -> None:
    assert buckets.check(configured(store.endpoint, bucket), of(store)) == []
    assert objects(store, bucket) == []


def test_the_keys_come_from_the_environment(
    store: Store, bucket: str, configured: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKUP_ACCESS_KEY_ID", store.access)
    monkeypatch.setenv("BACKUP_SECRET_ACCESS_KEY", store.secret)

    assert buckets.check(configured(store.endpoint, bucket)) == []


def test_without_keys_it_says_which_to_export(
    store: Store, bucket: str, configured: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKUP_ACCESS_KEY_ID", store.access)

    with pytest.raises(HomeportError) as caught:
        buckets.check(configured(store.endpoint, bucket))

    error = caught.value
    assert (error.what, error.fix, error.code) == (
        "the backup's keys are not given: BACKUP_SECRET_ACCESS_KEY",
        "export BACKUP_SECRET_ACCESS_KEY, or deploy secrets set NAME",
        2,
    )


def test_without_a_bucket_it_offers_to_make_one(store: Store, configured: Loader) -> None:
    error = refusal(configured(store.endpoint, "not-there"), of(store))

    assert isinstance(error, NoBucketError)
    assert (error.what, error.where, error.fix) == (
        f"there is no bucket not-there at {store.endpoint}",
        "deploy.yml:6 backup.bucket",
        "deploy backup create-bucket",
    )


def test_a_wrong_key_and_a_wrong_secret_are_told_apart(store: Store, bucket: str, configured: Loader) -> None:
    loaded = configured(store.endpoint, bucket)

    access = refusal(loaded, keys("NOBODY-KNOWS-ME", store.secret))
    secret = refusal(loaded, keys(store.access, "hunter2-and-more"))

    assert (access.what, access.where) == (
        f"{store.endpoint} does not know the key in BACKUP_ACCESS_KEY_ID",
        "environment: BACKUP_ACCESS_KEY_ID",
    )
    assert (secret.what, secret.fix) == (
        "the secret key in BACKUP_SECRET_ACCESS_KEY does not belong to the access key in BACKUP_ACCESS_KEY_ID",
        "set the right value: export BACKUP_SECRET_ACCESS_KEY",
    )
    assert "hunter2" not in "\n".join(secret.lines())


def test_a_key_that_may_only_read_is_not_enough(store: Store, bucket: str, configured: Loader) -> None:
    error = refusal(configured(store.endpoint, bucket), keys("READER", "only-reads"))

    assert error.what == (
        f"the key in BACKUP_ACCESS_KEY_ID may not write to it: the bucket {bucket}, which may belong to somebody else"
    )


@pytest.mark.parametrize(
    ("required", "lacking"), [("versioning", "has no versioning"), ("object_lock", "has no versioning")]
)
def test_what_is_required_must_be_there(
    store: Store, bucket: str, configured: Loader, required: str, lacking: str
) -> None:
    error = refusal(configured(store.endpoint, bucket, f"  require: [{required}]\n"), of(store))

    assert (error.what, error.where) == (f"the bucket {bucket} {lacking}", "deploy.yml:8 backup.require")


def test_versions_alone_are_no_object_lock(store: Store, configured: Loader) -> None:
    name = f"t{secrets.token_hex(6)}"
    buckets.create(configured(store.endpoint, name), of(store))

    error = refusal(configured(store.endpoint, name, "  require: [versioning, object_lock]\n"), of(store))

    assert error.what == f"the bucket {name} has no object lock"


def test_a_bucket_is_made_with_versions_that_end(store: Store, configured: Loader) -> None:
    name = f"t{secrets.token_hex(6)}"
    loaded = configured(store.endpoint, name, "  require: [versioning]\n  retention: 25h\n")

    assert buckets.create(loaded, of(store)) == [
        f"created the bucket {name}",
        "old versions of objects stay for 2 days more",
    ]
    assert buckets.check(loaded, of(store)) == []
    assert buckets.create(loaded, of(store)) == [
        f"the bucket {name} exists and is empty",
        "old versions of objects stay as long as the bucket's lifecycle rules say",
    ]


def test_a_bucket_is_made_locked_where_that_is_required(store: Store, configured: Loader) -> None:
    loaded = configured(store.endpoint, f"t{secrets.token_hex(6)}", "  require: [object_lock]\n")

    assert "object lock, governance" in buckets.create(loaded, of(store))[2]
    assert buckets.check(loaded, of(store)) == []


def test_a_bucket_that_holds_something_stays_as_it_is(store: Store, bucket: str, configured: Loader) -> None:
    store.bucket(bucket).put("shop/CURRENT", b"{}")

    assert buckets.create(configured(store.endpoint, bucket), of(store)) == [
        f"the bucket {bucket} exists already, and stays as it is"
    ]
    assert objects(store, bucket) == ["shop/CURRENT"]
    error = refusal(configured(store.endpoint, bucket, "  require: [versioning]\n"), of(store))
    assert error.what == f"the bucket {bucket} has no versioning"


def test_a_probe_that_a_killed_check_left_is_removed_once_it_is_old(
    store: Store, bucket: str, configured: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.bucket(bucket).put("shop/.probe-abc", b"x")
    loaded = configured(store.endpoint, bucket)

    assert buckets.check(loaded, of(store)) == []
    assert objects(store, bucket) == ["shop/.probe-abc"]

    monkeypatch.setattr(buckets, "PROBE_LIFETIME", timedelta(hours=-1))
    assert buckets.check(loaded, of(store)) == []
    assert objects(store, bucket) == []


def test_where_nobody_answers_the_host_may_still_have_a_way(configured: Loader) -> None:
    loaded = configured("http://127.0.0.1:9", "shop-backups")
    given = {"BACKUP_ACCESS_KEY_ID": "someone", "BACKUP_SECRET_ACCESS_KEY": "hunter2-and-more"}

    error = refusal(loaded, keys("someone", "hunter2-and-more"))
    warnings = preflight.backup(loaded, collect(loaded, given))

    assert isinstance(error, UnreachableError)
    assert error.fix == "find the reason with: curl -sSI http://127.0.0.1:9"
    assert warnings == [f"{error.what}; the host checks it again"]


def test_a_store_whose_packets_go_nowhere_is_out_of_reach_and_not_something_else(configured: Loader) -> None:
    waited = ConnectTimeoutError(endpoint_url="http://198.51.100.9:8333")
    error = from_boto(waited, configured("http://198.51.100.9:8333", "shop"), "read it")
    assert isinstance(error, UnreachableError)


def test_a_name_that_is_nobodys_is_a_mistake(configured: Loader) -> None:
    error = refusal(configured("https://s3.invalid", "shop-backups"), keys("someone", "hunter2-and-more"))

    assert (error.what, error.where) == (
        "the name s3.invalid does not resolve",
        "deploy.yml:7 backup.endpoint",
    )


def test_where_the_keys_are_not_given_the_host_keeps_its_own(configured: Loader) -> None:
    loaded = configured("http://127.0.0.1:9", "shop-backups")

    assert preflight.backup(loaded, collect(loaded, {})) == []


@pytest.fixture
def provisioning(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What provisioning hands to its playbook, which is not run."""
    from homeport.deployment import provision
    from homeport.plays.runner import PlayResult

    played: list[dict[str, Any]] = []

    def play(name: str, host_vars: Any, show: Any, **more: Any) -> PlayResult:
        played.append({"environ": dict(os.environ), **more})
        return PlayResult()

    monkeypatch.setattr(provision, "play", play)
    monkeypatch.setattr(preflight, "domains_and_ports", lambda _: [])
    return played


def provision(loaded: Any) -> None:
    from homeport.deployment import provision
    from homeport.options.options import Options
    from homeport.remote.session import Session
    from homeport.screen.screen import Screen

    provision.provision(Session(loaded, Options()), Screen(quiet=True))


def test_a_host_is_provisioned_with_the_keys_and_no_child_inherits_them(
    store: Store,
    bucket: str,
    configured: Loader,
    provisioning: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ("BACKUP_ACCESS_KEY_ID", "BACKUP_SECRET_ACCESS_KEY")
    for name, value in zip(names, (store.access, store.secret), strict=True):
        monkeypatch.setenv(name, value)

    provision(configured(store.endpoint, bucket))

    assert provisioning[0]["secrets"] == dict(zip(names, (store.access, store.secret), strict=True))
    assert not set(names) & set(provisioning[0]["environ"])


def test_the_host_is_not_touched_for_a_bucket_that_cannot_be_used(
    store: Store, configured: Loader, provisioning: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKUP_ACCESS_KEY_ID", store.access)
    monkeypatch.setenv("BACKUP_SECRET_ACCESS_KEY", store.secret)

    with pytest.raises(NoBucketError):
        provision(configured(store.endpoint, "not-there"))

    assert provisioning == []


# what only other stores answer


Answer = tuple[int, dict[str, str], str]


@contextmanager
def answering(answer: Callable[[str, str], Answer], context: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server that answers each request by its method and path; gives its port."""

    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, body = answer(self.command, self.path)
            self.send_response_only(status)
            for name, value in {"Date": format_datetime(datetime.now(UTC), usegmt=True), **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_PUT = do_DELETE = do_HEAD = _reply  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def said(code: str, more: str = "") -> str:
    return f"<Error><Code>{code}</Code><Message>Because.</Message>{more}</Error>"


LIST = "<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>"
REGION = "<Region>eu-central-1</Region>"

REFUSALS = [
    (400, {}, said("AuthorizationHeaderMalformed", REGION), "is in eu-central-1, not in us-east-1", "set backup.region: eu-central-1"),
    (301, {"x-amz-bucket-region": "eu-west-3"}, said("PermanentRedirect"), "is in eu-west-3, not in us-east-1", "set backup.region: eu-west-3"),
    (200, {"x-amz-bucket-region": "eu-west-3"}, LIST, "is in eu-west-3, not in us-east-1", "set backup.region: eu-west-3"),
    (403, {}, said("AccessDenied"), "may not list it: the bucket shop-backups", "give it the rights"),
    (403, {}, said("RequestTimeTooSkewed"), "the clock of this machine is wrong", "timedatectl set-ntp true"),
    (507, {}, said("QuotaExceeded"), "refused the request to list it, for the bucket shop-backups (507 QuotaExceeded: Because.)", "console"),
    (404, {}, "<html>hello", "is not an S3 store (404 Not Found)", "correct backup.endpoint"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "headers", "body", "what", "fix"), REFUSALS, ids=[each[3] for each in REFUSALS])
def test_every_refusal_says_what_mends_it(
    configured: Loader, status: int, headers: dict[str, str], body: str, what: str, fix: str
) -> None:
    with answering(lambda *_: (status, headers, body)) as port:
        error = refusal(configured(f"http://{port}", "shop-backups"), keys("someone", "hunter2-and-more"))

    assert what in error.what
    assert fix in error.fix


def test_a_store_without_conditional_writes_is_refused(configured: Loader) -> None:
    def careless(method: str, path: str) -> Answer:
        if method == "GET" and "list-type" in path:
            return 200, {}, LIST
        return (204 if method == "DELETE" else 200), {}, ""

    with answering(careless) as port, pytest.MonkeyPatch.context() as patch:
        patch.setattr(buckets.random, "token_bytes", lambda _: b"")
        error = refusal(configured(f"http://{port}", "shop-backups"), keys("someone", "hunter2-and-more"))

    assert "has no conditional writes (If-None-Match)" in error.what


def test_a_clock_that_is_off_is_warned_of(configured: Loader) -> None:
    there = format_datetime(datetime.now(UTC) + timedelta(seconds=300), usegmt=True)

    def store(method: str, path: str) -> Answer:
        puts = [1] if method == "PUT" else []
        seen.extend(puts)
        if len(seen) == 2 and puts:
            return 412, {}, said("PreconditionFailed")
        return 200, {"Date": there}, LIST if "list-type" in path else ""

    seen: list[int] = []
    with answering(store) as port, pytest.MonkeyPatch.context() as patch:
        patch.setattr(buckets.random, "token_bytes", lambda _: b"")
        warnings = buckets.check(configured(f"http://{port}", "shop-backups"), keys("someone", "hunter2-and-more"))

    assert len(warnings) == 1
    assert "s behind the store's; at 900 s the store refuses" in warnings[0]


@pytest.fixture
def certified(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A store that answers over TLS, and the file of the CA that signed its certificate."""
    from homeport.sandbox import certificates

    issued = certificates.issue("127.0.0.1")
    for name, text in (("ca.pem", issued.ca), ("cert.pem", issued.certificate), ("key.pem", issued.key)):
        (tmp_path / name).write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with answering(lambda *_: (404, {}, said("NoSuchBucket")), context) as port:
        yield f"https://{port}", tmp_path / "ca.pem"


def test_a_private_ca_is_trusted_when_it_is_named(configured: Loader, certified: tuple[str, Path]) -> None:
    endpoint, ca = certified

    error = refusal(configured(endpoint, "shop-backups", f"  ca: {ca}\n"), keys("someone", "hunter2-and-more"))

    assert isinstance(error, NoBucketError)


def test_a_private_ca_that_is_not_named_or_another_is_told(configured: Loader, certified: tuple[str, Path]) -> None:
    from homeport.sandbox import certificates

    endpoint, ca = certified
    (ca.parent / "other.pem").write_text(certificates.issue("127.0.0.1").ca)

    unnamed = refusal(configured(endpoint, "shop-backups"), keys("someone", "hunter2-and-more"))
    other = refusal(configured(endpoint, "shop-backups", "  ca: other.pem\n"), keys("someone", "hunter2-and-more"))

    assert unnamed.fix == "set backup.ca to the file of the CA that signed it"
    assert other.what == f"the certificate of {endpoint} is not signed by other.pem"


def test_help_does_not_wait_for_boto3() -> None:
    import subprocess
    import sys

    code = (
        "import sys, homeport.cli, homeport.deployment.preflight, homeport.bucket.check; print('boto3' in sys.modules)"
    )
    said = subprocess.check_output([sys.executable, "-c", code], text=True, env={**os.environ})

    assert said == "False\n"
