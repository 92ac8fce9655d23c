"""hostctl's own S3 client: against a real server, and against made-up answers where a real one gives none."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from objectstore import Store, free_ports
from odd_store import DOCUMENTED, Dripping, answering, at, refused, serving

from homeport.sandbox import certificates
from hostctl.backup import s3
from hostctl.backup.s3 import Bucket
from hostctl.backup.settings import Backup, Credentials


@pytest.fixture
def there(store: Store, bucket: str) -> Bucket:
    return store.bucket(bucket)


# ------------------------------------------------------------------------------- signature


@pytest.mark.parametrize(
    ("query", "signature"),
    [
        ({"lifecycle": ""}, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        ({"max-keys": "2", "prefix": "J"}, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ],
)
def test_requests_are_signed_as_in_the_documented_examples(query: dict[str, str], signature: str) -> None:
    at = 1369353600.0  # 2013-05-24
    signed = s3.sign(DOCUMENTED, "us-east-1", "GET", "examplebucket.s3.amazonaws.com", "/", query, b"", at)
    assert signed["authorization"].endswith(f"Signature={signature}")


@pytest.mark.parametrize("key", ["plain", "a/b c", "a+b", "ü%20&=?#", "~tilde-_.txt"])
def test_an_object_of_any_name_comes_back(there: Bucket, key: str) -> None:
    there.put(key, b"content")
    found = there.get(key)
    assert found is not None
    assert found[0] == b"content"
    assert key in [one.key for one in there.list("")]


# ------------------------------------------------------------------------------- objects


def test_what_is_not_there_is_none_and_deleting_it_is_fine(there: Bucket) -> None:
    assert there.get("nothing") is None
    there.delete("nothing")


def test_a_listing_goes_on_over_its_pages(there: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(7):
        there.put(f"many/{number}", b"12")
    page = there._page
    monkeypatch.setattr(there, "_page", lambda prefix, most, *rest: page(prefix, 3, *rest))
    found = there.list("many/")
    assert [one.key for one in found] == [f"many/{number}" for number in range(7)]
    assert {one.size for one in found} == {2}
    assert all(abs(one.modified - time.time()) < 60 for one in found)
    assert [one.key for one in there.list("many/", "many/4")] == ["many/5", "many/6"]


def test_whether_there_is_anything_under_a_prefix(there: Bucket) -> None:
    there.put("here/object", b"")
    assert there.any("here/")
    assert not there.any("elsewhere/")


def test_the_first_writer_wins_and_the_second_is_told(there: Bucket) -> None:
    first = there.put("CURRENT", b"one", if_none_match=True)
    with pytest.raises(s3.Conflict):
        there.put("CURRENT", b"two", if_none_match=True)
    second = there.put("CURRENT", b"three", if_match=first)
    with pytest.raises(s3.Conflict):
        there.put("CURRENT", b"four", if_match=first)
    assert there.get("CURRENT") == (b"three", second)


def test_of_many_writers_at_once_exactly_one_wins(store: Store, bucket: str) -> None:
    etag = store.bucket(bucket).put("CURRENT", b"before")
    won: list[int] = []

    def write(number: int) -> None:
        try:
            store.bucket(bucket).put("CURRENT", str(number).encode(), if_match=etag)
            won.append(number)
        except s3.Conflict:
            pass

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = store.bucket(bucket).get("CURRENT")
    assert found is not None
    assert [found[0]] == [str(number).encode() for number in won]


# ------------------------------------------------------------------------------- refusals of the real server


def test_a_wrong_secret_is_told_from_an_unknown_key(store: Store, bucket: str) -> None:
    backup = store.backup(bucket)
    wrong = Bucket(backup, Credentials(store.access, "an-entirely-wrong-secret"))
    unknown = Bucket(backup, Credentials("NOBODYSKEY", "an-entirely-wrong-secret"))
    assert "secret access key is wrong" in refused(wrong.check).what
    assert "does not know the backup's access key" in refused(unknown.check).what


def test_errors_hold_nothing_of_the_keys(store: Store, bucket: str) -> None:
    keys = Credentials("NOBODYSKEY", "an-entirely-wrong-secret")
    acts: list[Callable[[], object]] = [
        Bucket(store.backup(bucket), keys).check,
        Bucket(store.backup(bucket), Credentials(store.access, keys.secret_access_key)).check,
        Bucket(store.backup("no-such-bucket"), store.credentials).check,
        Bucket(store.backup(bucket, endpoint="http://127.0.0.1:9"), keys).check,
    ]
    for act in acts:
        error = refused(act)
        text = f"{error!r} {error.as_dict()} {error.__cause__!r} {error.__context__!r}"
        assert not [key for key in (*keys, store.access, store.secret) if key and key in text]
    assert "NOBODYSKEY" not in repr(keys)


def test_what_the_key_may_not_do_is_named(store: Store, bucket: str) -> None:
    reader = Bucket(store.backup(bucket), Credentials("READER", "only-reads"))
    reader.check()
    assert "may not PUT shop/CURRENT" in refused(lambda: reader.put("shop/CURRENT", b"")).what


def test_a_bucket_that_is_not_there_is_offered_to_be_made(store: Store) -> None:
    error = refused(store.bucket("no-such-bucket").check)
    assert error.what == "there is no bucket no-such-bucket"
    assert error.fix == "deploy backup create-bucket"


def test_a_clock_that_is_wrong_is_named(there: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3.time, "time", lambda real=time.time: real() - 3600)  # type: ignore[attr-defined]
    error = refused(there.check)
    assert "clock is 3" in error.what
    assert "s behind the store's" in error.what


def test_the_clocks_are_compared_with_every_answer(there: Bucket) -> None:
    assert there.skew is None
    there.check()
    assert there.skew is not None
    assert abs(there.skew) < s3.SKEW


# ------------------------------------------------------------------------------- no way there


def test_nobody_there_is_told_at_once(store: Store) -> None:
    (port,) = free_ports(1)
    error = refused(store.bucket("any", endpoint=f"http://127.0.0.1:{port}").check)
    assert isinstance(error, s3.Unreachable)
    assert "refused" in error.what


def test_a_name_that_does_not_resolve_is_told(store: Store) -> None:
    error = refused(store.bucket("any", endpoint="http://no-such-host.invalid").check)
    assert isinstance(error, s3.Unreachable)
    assert "the name no-such-host.invalid does not resolve" in error.what


def test_a_store_that_drips_is_cut_off_when_the_time_is_up() -> None:
    with serving(Dripping) as port:
        error = refused(Bucket(at(port), DOCUMENTED, total=0.5).check)
    assert isinstance(error, s3.Unreachable)


def test_a_store_that_hangs_is_cut_off_when_the_time_is_up(store: Store, bucket: str) -> None:
    hanging = Bucket(store.backup(bucket), store.credentials, total=0.5)
    store.freeze()
    try:
        assert isinstance(refused(hanging.check), s3.Unreachable)
    finally:
        store.thaw()
    hanging.check()


@pytest.mark.parametrize(
    ("status", "code", "headers", "said"),
    [
        (301, "PermanentRedirect", [("x-amz-bucket-region", "eu-west-1")], "is in the region eu-west-1"),
        (400, "AuthorizationHeaderMalformed", [], "is in the region eu-west-1"),
        (400, "IllegalLocationConstraintException", [], "is in the region eu-west-1"),
        (403, "ExpiredToken", [], "has expired"),
        (418, "Strange", [], "S3 answered 418 Strange"),
    ],
)
def test_what_a_store_refuses_is_told_by_name(
    status: int, code: str, headers: list[tuple[str, str]], said: str
) -> None:
    body = f"<Error><Code>{code}</Code><Message>No &amp; {DOCUMENTED.access_key_id}</Message>"
    body += "<Region>eu-west-1</Region></Error>"
    with serving(answering(status, body.encode(), *headers)) as port:
        error = refused(Bucket(at(port), DOCUMENTED).check)
    assert said in error.what
    assert DOCUMENTED.access_key_id not in error.what


def test_a_busy_store_is_asked_again_and_then_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PAUSE", 0.0)
    handler = answering(503, b"<Error><Code>SlowDown</Code><Message>later</Message></Error>")
    with serving(handler) as port:
        assert "503 SlowDown" in refused(Bucket(at(port), DOCUMENTED).check).what
    assert len(handler.seen) == s3.TRIES


def test_an_answer_that_is_no_s3_is_named() -> None:
    with serving(answering(404, b"<html>nginx</html>")) as port:
        assert "S3 answered 404" in refused(Bucket(at(port), DOCUMENTED).check).what


# ------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("backup", "authority", "root"),
    [
        (Backup("b", "p", "eu-north-1"), "b.s3.eu-north-1.amazonaws.com", ""),
        (Backup("b", "p", "cn-north-1"), "b.s3.cn-north-1.amazonaws.com.cn", ""),
        (Backup("b.dot", "p", "eu-north-1"), "s3.eu-north-1.amazonaws.com", "/b.dot"),
        (Backup("b", "p", "r", "https://s3.example.org", True), "s3.example.org", "/b"),
        (Backup("b", "p", "r", "https://s3.example.org:9000", False), "b.s3.example.org:9000", ""),
        (Backup("b", "p", "r", "http://s3.example.org/deep/", True), "s3.example.org", "/deep/b"),
    ],
)
def test_the_address_of_the_bucket(backup: Backup, authority: str, root: str) -> None:
    found = Bucket(backup, DOCUMENTED)
    assert (found._server().authority, found._root) == (authority, root)


def test_the_host_style_signs_what_it_asks() -> None:
    handler = answering(200, b"<ListBucketResult></ListBucketResult>")
    with serving(handler) as port:
        bucket = Bucket(at(port, path_style=False), DOCUMENTED)
        bucket.host, authority = "localhost", f"localhost:{port}"
        bucket.check()
    assert handler.seen[0][0] == authority
    assert handler.seen[0][1].startswith("/?")


# ------------------------------------------------------------------------------- TLS


def test_a_private_ca_is_trusted_and_no_other_is(tmp_path: Path) -> None:
    issued = certificates.issue("127.0.0.1")
    (tmp_path / "ca.pem").write_text(issued.ca)
    (tmp_path / "both.pem").write_text(issued.certificate + issued.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    with serving(answering(200, b"<ListBucketResult></ListBucketResult>"), context) as port:
        Bucket(at(port, "https", ca=tmp_path / "ca.pem"), DOCUMENTED).check()
        error = refused(Bucket(at(port, "https"), DOCUMENTED).check)
    assert isinstance(error, s3.Unreachable)
    assert "is not trusted" in error.what


def test_a_ca_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    error = refused(Bucket(at(1, "https", ca=tmp_path / "missing.pem"), DOCUMENTED).check)
    assert error.where == str(tmp_path / "missing.pem")
