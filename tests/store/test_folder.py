"""Local folders and objects behave alike: whole or absent, created once, gone when removed."""

from __future__ import annotations

import errno
import sys
import threading
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenegen.errors import ResourceError, UsageError, WeightsError
from scenegen.store.folder import Folder, LocalFolder, RemoteFolder, connect, is_url, local_path, refuse_network


@pytest.fixture(params=["local", "memory", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "local":
        return LocalFolder(tmp_path / "root", tmp_path / "staging")
    if request.param == "memory":
        return RemoteFolder(f"memory://{uuid.uuid4().hex}")
    return RemoteFolder(f"{request.getfixturevalue('bucket_url')}/deep/down")


def test_read_write_remove(folder: Folder) -> None:
    assert folder.read("a/b.json") is None
    folder.write("a/b.json", b"one")
    folder.write("a/b.json", b"two")
    assert folder.read("a/b.json") == b"two"
    folder.remove("a/b.json")
    folder.remove("a/b.json")
    assert folder.read("a/b.json") is None


def test_create_writes_once(folder: Folder) -> None:
    assert folder.create("lease", b"first")
    assert not folder.create("lease", b"second")
    assert folder.read("lease") == b"first"
    folder.remove("lease")
    assert folder.create("lease", b"second")


@pytest.mark.parametrize("folder", ["local", "s3"], indirect=True)  # memory:// lives in one process and has no lock
def test_of_many_that_create_one_does(folder: Folder) -> None:
    won: list[int] = []
    threads = [
        threading.Thread(target=lambda i=i: won.append(i) if folder.create("x", str(i).encode()) else None)
        for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert folder.read("x") == str(won[0]).encode()


def test_a_write_that_fails_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = LocalFolder(tmp_path, tmp_path / "staging")
    folder.write("x", b"old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="full"):
        folder.write("x", b"new")
    assert folder.read("x") == b"old"
    assert list((tmp_path / "staging").iterdir()) == []


@pytest.mark.parametrize("folder", ["memory", "s3"], indirect=True)
def test_files_go_up_and_down(folder: RemoteFolder, tmp_path: Path) -> None:
    (tmp_path / "up").write_bytes(b"content")
    folder.upload(tmp_path / "up", "deep/file")
    assert folder.read("deep/file") == b"content"
    assert folder.download("deep/file", tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == b"content"
    assert not folder.download("deep/other", tmp_path / "other")


def test_whatever_a_back_end_raises_names_the_place_and_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RemoteFolder(f"memory://{uuid.uuid4().hex}")

    def dead(path: str) -> bytes:
        raise TimeoutError("no\nanswer")

    monkeypatch.setattr(connect(folder.url)[0], "cat_file", dead)
    with pytest.raises(ResourceError, match=r"cannot reach memory://.*/x: no answer; check the address"):
        folder.read("x")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("s3://bucket/a", True),
        ("HTTPS://host/a.jpg", True),
        ("memory://x", True),
        ("file:///a", False),
        ("/a/b", False),
        ("C:/photos", False),
        ("s3:/bucket", False),
    ],
)
def test_is_url(text: str, url: bool) -> None:
    assert is_url(text) == url


@given(
    st.binary(min_size=1, max_size=20).filter(lambda name: not set(name) & {0, ord("/")} and name not in (b".", b".."))
)
def test_any_path_survives_as_a_file_url(name: bytes) -> None:
    path = Path("/photos") / name.decode(sys.getfilesystemencoding(), "surrogateescape")
    assert local_path(path.as_uri()) == path


def test_unknown_and_missing_protocols(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="nope"):
        connect("nope://x")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(WeightsError, match=r"scenegen-3d\[batch\]"):
        connect("s3://x")


def test_offline_refuses_what_needs_the_network() -> None:
    refuse_network("memory://x", "out")
    with pytest.raises(UsageError, match="`out` is s3://x, which needs the network"):
        refuse_network("s3://x", "out")
