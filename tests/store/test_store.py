"""Entries appear whole or not at all, whoever else writes, and whatever happened to the disk."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
import uuid
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pxr import Tf

from scenegen.errors import InputError, ResourceError
from scenegen.records import Artifact, Record, digest_json
from scenegen.store.digest import sha256_file
from scenegen.store.entry import EntryFile
from scenegen.store.folder import RemoteFolder
from scenegen.store.store import ABANDONED_AFTER_S, Store, disk_errors, entry_folder

KEY = "ab" + "0" * 62


class Text(Record):
    text: str


class Draft(Text):
    @property
    def provisional(self) -> bool:
        return True


class Named(Record):
    """Names a file of another entry."""

    file: Artifact


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def commit(store: Store, text: str, key: str = KEY) -> None:
    with store.staging() as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "data.txt").write_text(text)
        store.commit(folder, "stage", key, Text(text=text), 1.5)


def test_commit_and_find(store: Store) -> None:
    assert store.find("stage", KEY) is None
    commit(store, "hello")
    entry = store.find("stage", KEY)
    assert entry is not None
    assert (entry.record, entry.seconds) == ({"text": "hello"}, 1.5)
    assert entry.files == {"sub/data.txt": EntryFile(sha256=hashlib.sha256(b"hello").hexdigest(), bytes=5)}
    assert store.find("other", KEY) is None
    assert list((store.root / "staging").iterdir()) == []


def test_the_first_commit_stands(store: Store) -> None:
    commit(store, "first")
    commit(store, "second")
    assert (store.root / entry_folder("stage", KEY) / "sub" / "data.txt").read_text() == "first"


@pytest.mark.parametrize(
    "damage",
    ["missing", "short", "changed", "no entry", "half entry", "list entry", "no files", "entry no text", "deep entry"],
)
def test_a_damaged_entry_does_not_count_is_said_once_and_replaced(
    store: Store, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    commit(store, "hello")
    folder = store.root / entry_folder("stage", KEY)
    entry = folder / "entry.json"
    if damage == "missing":
        (folder / "sub" / "data.txt").unlink()
    elif damage == "short":
        (folder / "sub" / "data.txt").write_text("hell")
    elif damage == "changed":
        (folder / "sub" / "data.txt").write_text("hullo")
    elif damage == "no entry":
        entry.unlink()
    else:
        content = {
            "half entry": entry.read_bytes()[:20],
            "list entry": b"[]",
            "no files": b"{}",
            "entry no text": b"\xff\xfe",
            "deep entry": b"[" * 100_000,
        }
        entry.write_bytes(content[damage])
    assert store.find("stage", KEY) is None
    assert store.find("stage", KEY) is None
    assert caplog.text.count("is damaged") == 1
    commit(store, "again")
    found = store.find("stage", KEY)
    assert found is not None
    assert found.record == {"text": "again"}


def test_a_failed_stage_leaves_nothing(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.staging() as folder:
        (folder / "half").write_text(str(1 / 0))
    assert list((store.root / "staging").iterdir()) == []


def test_two_processes_commit_the_same_key(store: Store) -> None:
    keys = [f"{i:02x}" + "1" * 62 for i in range(40)]
    pids = []
    for name in ("one", "two", "three"):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for key in keys:
                    commit(store, name, key)
                    assert store.find("stage", key) is not None
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0, 0, 0]
    for key in keys:
        entry = store.find("stage", key)
        assert entry is not None
        text = (store.root / entry_folder("stage", key) / "sub" / "data.txt").read_text()
        assert entry.record == {"text": text}
    assert list((store.root / "staging").iterdir()) == []


def test_two_entries_that_were_swapped_do_not_count(store: Store) -> None:
    other = "cd" + "0" * 62
    commit(store, "one")
    commit(store, "two", other)
    for name in ("entry.json", "sub/data.txt"):
        one, two = store.root / entry_folder("stage", KEY) / name, store.root / entry_folder("stage", other) / name
        texts = one.read_bytes(), two.read_bytes()
        one.write_bytes(texts[1])
        two.write_bytes(texts[0])
    assert store.find("stage", KEY) is None
    assert store.find("stage", other) is None
    shutil.copytree(store.root / "stage", store.root / "other")
    assert store.find("other", KEY) is None


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_one_flipped_bit_anywhere_is_noticed(store: Store, data: st.DataObject) -> None:
    key = data.draw(st.integers(0, 2**64).map(lambda number: f"{number:064x}"))
    commit(store, "hello", key)
    before = store.find("stage", key)
    assert before is not None
    path = store.root / entry_folder("stage", key) / data.draw(st.sampled_from(["entry.json", "sub/data.txt"]))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    found = store.find("stage", key)
    assert found is None or found == before  # a blank between two values is nothing
    commit(store, "hello", key)
    assert store.find("stage", key) == before


def test_an_entry_counts_only_with_what_it_names_in_others(store: Store) -> None:
    commit(store, "hello")
    path = store.root / entry_folder("stage", KEY) / "sub" / "data.txt"
    file = Artifact(path=f"{entry_folder('stage', KEY)}/sub/data.txt", sha256=sha256_file(path), bytes=5)
    key = "cd" + "0" * 62
    for name in (file.path, "../../etc/passwd", "/etc/passwd"):
        with store.staging() as folder:
            store.commit(folder, "naming", key, Named(file=file.model_copy(update={"path": name})), 1.0)
        assert (store.find("naming", key) is not None) == (name == file.path)
        store.discard("naming", key, "test")
    with store.staging() as folder:
        store.commit(folder, "naming", key, Named(file=file), 1.0)
    path.write_text("hullo")
    assert store.find("naming", key) is None


def test_a_draft_is_read_and_never_found(store: Store) -> None:
    with store.staging() as folder:
        (folder / "data.txt").write_text("small")
        store.commit(folder, "stage", KEY, Draft(text="small"), 1.0)
    artifact = Artifact(path=f"{entry_folder('stage', KEY)}/data.txt", sha256="0", bytes=5)
    assert store.path(artifact).read_text() == "small"
    assert store.find("stage", KEY) is None
    commit(store, "whole")
    found = store.find("stage", KEY)
    assert found is not None
    assert found.record == {"text": "whole"}


def test_what_is_discarded_is_gone(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    commit(store, "hello")
    store.discard("stage", KEY, "its record has another form")
    store.discard("stage", KEY, "its record has another form")
    assert not (store.root / entry_folder("stage", KEY)).exists()
    assert caplog.text.count("its record has another form") == 1


def _stage(root: Path, staged: Connection) -> None:
    with Store(root).staging() as folder:
        (folder / "half").touch()
        staged.send(folder)
        time.sleep(600)


def test_sweep_removes_what_ended_processes_left_and_nothing_else(store: Store) -> None:
    context = get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_stage, args=(store.root, theirs))
    process.start()
    folder = ours.recv()
    with store.staging() as mine:
        store.sweep()
        assert sorted((store.root / "staging").iterdir()) == sorted((mine, folder))
        process.kill()
        process.join()
        store.sweep()
        assert list((store.root / "staging").iterdir()) == [mine]


def test_sweep_removes_leases_of_ended_processes(store: Store) -> None:
    pid = os.fork()
    if pid == 0:
        with store.in_use():
            os._exit(0)
    os.waitpid(pid, 0)
    with store.in_use():
        assert len(list((store.root / "leases").iterdir())) == 2
        store.sweep()
        assert len(list((store.root / "leases").iterdir())) == 1
    assert list((store.root / "leases").iterdir()) == []


def test_sweep_removes_old_files_too(store: Store) -> None:
    old = store.root / "staging" / "old"
    old.parent.mkdir(parents=True)
    old.touch()
    past = time.time() - ABANDONED_AFTER_S - 60
    os.utime(old, (past, past))
    store.sweep()
    assert not old.exists()


def test_ingest(store: Store, tmp_path: Path) -> None:
    photo = tmp_path / "Photo.JPG"
    photo.write_bytes(b"bytes")
    artifact = store.ingest(photo)
    assert store.path(artifact).read_bytes() == b"bytes"
    assert artifact.path.endswith(f"{sha256_file(photo)}.jpg")
    assert store.ingest(photo) == artifact
    for damaged in (b"byte", b"bytez"):
        store.path(artifact).write_bytes(damaged)
        store.ingest(photo)
        assert store.path(artifact).read_bytes() == b"bytes"


def test_ingest_drops_odd_suffixes(store: Store, tmp_path: Path) -> None:
    for name in ("a." + "x" * 200, "a.j p", "a.é", "a"):
        path = tmp_path / name
        path.write_bytes(name.encode())
        assert "." not in store.ingest(path).path


def test_ingest_refuses(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="No such file"):
        store.ingest(tmp_path / "missing.jpg")
    with pytest.raises(InputError, match="must be a file"):
        store.ingest(tmp_path)
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(InputError, match="must be a file"):  # and does not wait for a writer
        store.ingest(tmp_path / "pipe.jpg")
    (tmp_path / "big.jpg").write_bytes(b"x" * 11)
    monkeypatch.setattr("scenegen.store.store.MAX_INPUT_BYTES", 10)
    with pytest.raises(InputError, match="at most 10 bytes"):
        store.ingest(tmp_path / "big.jpg")
    assert not store.root.exists()


def test_ingest_notices_a_file_that_changes(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"one")
    copyfile = shutil.copyfile

    def late(source: Path, target: Path) -> None:
        source.write_bytes(b"two")
        copyfile(source, target)

    monkeypatch.setattr(shutil, "copyfile", late)
    with pytest.raises(InputError, match="changed while"):
        store.ingest(photo)
    assert not list((store.root).rglob("*.jpg"))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EFBIG, errno.EXDEV])
def test_disk_errors(code: int) -> None:
    with pytest.raises(ResourceError, match=os.strerror(code)), disk_errors(Path("x")):
        raise OSError(code, os.strerror(code))


def test_disk_errors_sees_a_short_write_of_numpy() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with pytest.raises(ResourceError, match="No space left"), disk_errors(Path("x")):
        np.zeros(100_000).tofile("/dev/full")


def test_disk_errors_understands_usd(tmp_path: Path) -> None:
    """Its writer has errors of its own, which only quote the system's."""
    with pytest.raises(ResourceError, match="No space left"), disk_errors(tmp_path):
        raise Tf.ErrorException(f"Failed writing usdc data: {os.strerror(errno.ENOSPC)}")


def test_disk_errors_passes_other_errors() -> None:
    with pytest.raises(ValueError, match="full"), disk_errors(Path("x")):
        raise ValueError("the room is full")
    with pytest.raises(InputError), disk_errors(Path("x")):
        raise InputError(os.strerror(errno.EIO))
    with pytest.raises(FileNotFoundError), disk_errors(Path("x")):
        raise FileNotFoundError(errno.ENOENT, "gone")


def test_a_file_where_the_store_should_be(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ResourceError, match="a file is in the way"), Store(tmp_path / "out" / "store").staging():
        pass


def test_entries_are_plain_json(store: Store) -> None:
    commit(store, "hello")
    entry = json.loads((store.root / entry_folder("stage", KEY) / "entry.json").read_text())
    assert set(entry) == {"entry", "sha256"}
    assert set(entry["entry"]) == {"stage", "key", "record", "seconds", "card_peak_bytes", "files", "provisional"}
    artifact = Artifact(path=f"{entry_folder('stage', KEY)}/sub/data.txt", sha256="0", bytes=5)
    assert store.path(artifact).read_text() == "hello"


# A mirror -------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "s3"])
def mirror(request: pytest.FixtureRequest) -> RemoteFolder:
    return RemoteFolder(
        request.getfixturevalue("bucket_url") if request.param == "s3" else f"memory://{uuid.uuid4().hex}"
    )


def entry_name(file: str = "entry.json") -> str:
    return f"{entry_folder('stage', KEY)}/{file}"


def test_what_one_machine_commits_another_finds(tmp_path: Path, mirror: RemoteFolder) -> None:
    one, two = Store(tmp_path / "one", mirror), Store(tmp_path / "two", mirror)
    assert two.find("stage", KEY) is None
    commit(one, "hello")
    assert two.find("stage", KEY) == one.find("stage", KEY)
    assert (two.root / entry_name("sub/data.txt")).read_text() == "hello"
    assert list((two.root / "staging").iterdir()) == []
    commit(Store(tmp_path / "three", mirror), "later")
    assert mirror.read(entry_name("sub/data.txt")) == b"hello"  # the first stands


def test_an_artifact_of_another_machine_is_fetched(tmp_path: Path, mirror: RemoteFolder) -> None:
    commit(Store(tmp_path / "one", mirror), "hello")
    artifact = Artifact(path=entry_name("sub/data.txt"), sha256="0", bytes=5)
    assert Store(tmp_path / "two", mirror).path(artifact).read_text() == "hello"


def test_the_mirror_shows_no_half_entry(tmp_path: Path, mirror: RemoteFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever upload is the last that works: another machine finds nothing; and the result here is kept."""

    def unreachable(self: RemoteFolder, name: str, content: bytes) -> None:
        raise ResourceError("cannot reach the store")

    store = Store(tmp_path / "one", mirror)
    with monkeypatch.context() as patch:
        patch.setattr(RemoteFolder, "write", unreachable)
        with pytest.raises(ResourceError, match="cannot reach"):
            commit(store, "hello")
    assert mirror.read(entry_name("sub/data.txt")) == b"hello"
    assert Store(tmp_path / "two", mirror).find("stage", KEY) is None
    found = store.find("stage", KEY)
    assert found is not None
    assert found.record == {"text": "hello"}


@pytest.mark.parametrize("damage", ["missing", "changed", "half entry", "list", "no digests", "outside", "itself"])
def test_a_damaged_entry_of_the_mirror_does_not_count(
    tmp_path: Path, mirror: RemoteFolder, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    commit(Store(tmp_path / "one", mirror), "hello")
    content = mirror.read(entry_name())
    assert content is not None
    entry = json.loads(content)
    if damage == "missing":
        mirror.remove(entry_name("sub/data.txt"))
    elif damage == "changed":
        mirror.write(entry_name("sub/data.txt"), b"hullo")
    elif damage == "half entry":
        mirror.write(entry_name(), content[:20])
    elif damage == "list":
        mirror.write(entry_name(), b"[]")
    elif damage == "no digests":
        mirror.write(entry_name(), json.dumps({**entry, "sha256": None}).encode())
    else:
        name = {"outside": "../../../../evil", "itself": "entry.json"}[damage]
        values = {**entry["entry"], "files": {name: entry["entry"]["files"]["sub/data.txt"]}}
        mirror.write(entry_name(name), b"hello")
        mirror.write(entry_name(), json.dumps({"entry": values, "sha256": digest_json(values)}).encode())
    two = Store(tmp_path / "two", mirror)
    assert two.find("stage", KEY) is None
    assert "is ignored" in caplog.text
    assert [path for path in (tmp_path / "two").rglob("*") if path.is_file()] == []
    assert not (tmp_path / "evil").exists()
    assert two.find("stage", KEY) is None
    assert caplog.text.count("is ignored") == 1
    commit(two, "again")
    found = Store(tmp_path / "three", mirror).find("stage", KEY)
    assert found is not None
    assert found.record == {"text": "again"}


def test_a_draft_in_the_mirror_gives_way(tmp_path: Path, mirror: RemoteFolder) -> None:
    one, two = Store(tmp_path / "one", mirror), Store(tmp_path / "two", mirror)
    with one.staging() as folder:
        one.commit(folder, "stage", KEY, Draft(text="small"), 1.0)
    assert two.find("stage", KEY) is None
    commit(two, "whole")
    found = Store(tmp_path / "three", mirror).find("stage", KEY)
    assert found is not None
    assert found.record == {"text": "whole"}


def test_leases_lie_where_all_see_them(tmp_path: Path, mirror: RemoteFolder, store: Store) -> None:
    with Store(tmp_path / "one", mirror).lease("stage", KEY, lambda: None):
        assert mirror.read(f"leases/stage-{KEY}") is not None
    with store.lease("stage", KEY, lambda: None):
        assert (store.root / "leases" / f"stage-{KEY}").exists()
    assert not any((store.root / "leases").iterdir())
