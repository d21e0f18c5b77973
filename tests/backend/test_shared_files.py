"""Objects of a bucket, on a real S3 server: what is written is read, and what fails says why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from backend.settings import Settings
from backend.shared_files import SharedFiles
from model.errors import StorageError
from tests.s3_server import BUCKET, KEY, SECRET, S3Server
from tests.tiebreak_process import NOWHERE


@hypothesis_settings(
    max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(data=st.binary(max_size=100_000), key=st.from_regex(r"[a-z0-9-]{1,40}", fullmatch=True))
def test_what_is_put_is_got(shared: SharedFiles, data: bytes, key: str) -> None:
    shared.put(f"x/{key}", data)
    assert shared.get(f"x/{key}") == data
    assert shared.under("x/")[f"x/{key}"].size == len(data)
    shared.remove([f"x/{key}", f"x/{key}"])
    assert shared.get(f"x/{key}") is None


def test_a_large_file_comes_back_whole(shared: SharedFiles, tmp_path: Path) -> None:
    data = os.urandom(7 * 2**20)
    (tmp_path / "one").write_bytes(data)
    shared.put_file("backbones/one", tmp_path / "one")
    assert shared.get_file("backbones/one", tmp_path / "new" / "two")
    assert (tmp_path / "new" / "two").read_bytes() == data
    assert not shared.get_file("backbones/none", tmp_path / "three")
    assert sorted(path.name for path in tmp_path.glob("*")) == ["new", "one"]


def test_nothing_is_seen_of_what_lies_beside(s3: S3Server, shared: SharedFiles) -> None:
    for key in ("team/a/1", "team/ab/2", "other/a/3"):
        s3.write(key, b"x")
    assert list(shared.under("a/")) == ["a/1"]
    assert shared.under("nothing/") == {}
    shared.remove(["a/1"])
    assert s3.all_keys() == ["other/a/3", "team/ab/2"]


def _error(shared: SharedFiles) -> StorageError:
    """What every kind of request says, which is the same."""
    found = []
    for ask in (
        lambda: shared.get("a"),
        lambda: shared.put("a", b"x"),
        lambda: shared.remove(["a"]),
        lambda: shared.under("a/"),
        shared.check,
    ):
        with pytest.raises(StorageError) as caught:
            ask()
        found.append(caught.value)
    assert len({error.mend for error in found}) == 1
    said = " ".join(map(str, found))
    assert KEY not in said
    assert SECRET not in said
    return found[0]


def test_a_bucket_that_is_not_there_is_named(s3: S3Server) -> None:
    error = _error(SharedFiles("s3://no-such-bucket/team", s3.url))
    assert error.message.endswith("there is no bucket “no-such-bucket”.")
    assert "TIEBREAK_ARTIFACTS" in error.mend


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"])
def test_a_wrong_key_is_said(s3: S3Server, shared: SharedFiles, code: str) -> None:
    s3.refusal = code
    error = _error(shared)
    assert f"the access key is not accepted ({code})" in error.message
    assert "AWS_ACCESS_KEY_ID" in error.mend


def test_a_key_without_rights_is_said(s3: S3Server, shared: SharedFiles) -> None:
    s3.refusal = "AccessDenied"
    assert f"list, read, write and delete in the bucket “{BUCKET}”" in _error(shared).mend


def test_no_key_at_all_is_said(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert "there is no access key" in _error(SharedFiles(f"s3://{BUCKET}/other", s3.url)).message


@pytest.mark.usefixtures("s3")
def test_a_server_that_is_away_is_said() -> None:
    error = _error(SharedFiles(f"s3://{BUCKET}/team", NOWHERE))
    assert f"{NOWHERE} does not answer" in error.message
    assert "TIEBREAK_S3_ENDPOINT" in error.mend


@pytest.mark.parametrize(
    "value", ["bucket", "s3://", "s3://key:secret@bucket/x", "s3://Bucket", "s3://bu/../x?y"]
)
def test_what_is_no_bucket_is_refused(value: str) -> None:
    with pytest.raises(ValidationError, match="s3://bucket/prefix"):
        Settings(artifacts=value)
