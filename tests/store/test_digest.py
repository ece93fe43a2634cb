"""Digests: read once, and again whenever the file may have changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scenegen.store import digest
from scenegen.store.digest import sha256_file, sha256_once


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """Files as they are read. What was changed just now counts as settled; large is what has a byte."""
    found: list[Path] = []

    def counted(path: Path) -> str:
        found.append(path)
        return sha256_file(path)

    monkeypatch.setattr(digest, "sha256_file", counted)
    monkeypatch.setattr(digest, "SETTLED_NS", -1)
    monkeypatch.setattr(digest, "user_cache_path", lambda name: tmp_path / "cache")
    return found


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a new process."""
    monkeypatch.setattr(digest, "_known", {})


def test_a_file_is_read_once_until_it_changes(tmp_path: Path, reads: list[Path]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    first = sha256_once(path)
    assert sha256_once(path) == first == sha256_file(path)
    assert len(reads) == 1
    before = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # size and time as before
    assert sha256_once(path) == sha256_file(path) != first


def test_a_file_of_this_moment_is_not_remembered(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digest, "SETTLED_NS", 10**15)
    path = tmp_path / "file"
    path.write_bytes(b"one")
    assert sha256_once(path) == sha256_once(path)
    assert len(reads) == 2


def test_another_process_need_not_read_a_large_file_again(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digest, "LARGE_BYTES", 3)
    large, small = tmp_path / "large", tmp_path / "small"
    large.write_bytes(b"abc")
    small.write_bytes(b"ab")
    known = sha256_once(large), sha256_once(small)
    forget(monkeypatch)
    assert (sha256_once(large), sha256_once(small)) == known
    assert reads == [large, small, small]
    large.write_bytes(b"abd")
    assert sha256_once(large) == sha256_file(large) != known[0]


@pytest.mark.parametrize("record", [b"", b"{}", b"[]", b'{"identity": 3, "sha256": 4}'])
def test_a_damaged_record_does_not_count(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch, record: bytes
) -> None:
    monkeypatch.setattr(digest, "LARGE_BYTES", 0)
    path = tmp_path / "file"
    path.write_bytes(b"one")
    known = sha256_once(path)
    (kept,) = (tmp_path / "cache" / "digests").iterdir()
    kept.write_bytes(record)
    forget(monkeypatch)
    assert sha256_once(path) == known
    assert len(reads) == 2


def test_where_nothing_can_be_remembered_the_file_is_read(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digest, "LARGE_BYTES", 0)
    (tmp_path / "cache").write_text("in the way")
    path = tmp_path / "file"
    path.write_bytes(b"one")
    assert sha256_once(path) == sha256_file(path)
