"""The published folder appears as a whole, or stays what it was."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scenegen.config import Config
from scenegen.errors import ExportError, InputError, ResourceError
from scenegen.export import manifest as module
from scenegen.export.manifest import Given, Manifest, environment, heal, output_files, publish, read_manifest
from scenegen.records import Artifact, Source
from scenegen.store.store import Store

Files = list[tuple[str, Artifact]]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def make(out: Path, contents: dict[str, bytes]) -> tuple[Store, Files, Manifest]:
    """A store with one artifact per content, and the manifest of all of them."""
    store = Store(out / ".scenegen")
    out.mkdir(exist_ok=True)
    files: Files = []
    for name, content in contents.items():
        given = out.parent / "given"
        given.write_bytes(content)
        files.append((name, store.ingest(given)))
    manifest = Manifest(
        state="complete",
        environment=environment("cpu"),
        config=Config(),
        given=Given(photo="photo.jpg"),
        source=Source(name="photo", photo=files[0][1]),
        stages=(),
        objects=(),
        failures=(),
        outputs=output_files(files),
    )
    return store, files, manifest


def publish_contents(out: Path, contents: dict[str, bytes]) -> bool:
    store, files, manifest = make(out, contents)
    return publish(store, out / "photo", files, manifest)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without_manifest(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in contents(folder).items() if name != "manifest.json"}


OLD = {"scene.glb": b"old", "objects/a.glb": b"a", "gone.txt": b"gone"}
NEW = {"scene.glb": b"newer", "objects/a.glb": b"a", "objects/b.glb": b"b"}


def test_publishes_and_reads_back(out: Path) -> None:
    store, files, manifest = make(out, OLD)
    assert publish(store, out / "photo", files, manifest)
    assert without_manifest(out / "photo") == OLD
    assert read_manifest(out / "photo") == manifest
    assert not publish(store, out / "photo", files, manifest)
    assert publish_contents(out, NEW)
    assert without_manifest(out / "photo") == NEW
    assert list((store.root / "staging").iterdir()) == []
    assert list((store.root / "replaced").iterdir()) == []


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"x")])
def test_mends_a_damaged_folder(out: Path, damage: Callable[[Path], Any]) -> None:
    publish_contents(out, OLD)
    damage(out / "photo" / "objects" / "a.glb")
    assert publish_contents(out, OLD)
    assert without_manifest(out / "photo") == OLD


def test_a_changed_manifest_alone_is_published(out: Path) -> None:
    store, files, manifest = make(out, OLD)
    publish(store, out / "photo", files, manifest)
    partial = manifest.model_copy(update={"state": "partial"})
    assert publish(store, out / "photo", files, partial)
    assert read_manifest(out / "photo").state == "partial"


def test_carries_over_what_the_user_added(out: Path) -> None:
    publish_contents(out, OLD)
    folder = out / "photo"
    (folder / "notes").mkdir()
    (folder / "notes" / "mine.txt").write_bytes(b"mine")
    (folder / "objects" / "b.glb").write_bytes(b"my own b")
    (folder / "link").symlink_to("scene.glb")
    publish_contents(out, NEW)
    assert without_manifest(folder) == {
        **NEW,
        "notes/mine.txt": b"mine",
        "objects/b.glb.kept": b"my own b",
        "link": b"newer",
    }
    assert (folder / "link").is_symlink()


def test_a_folder_that_is_not_ours_loses_nothing(out: Path) -> None:
    folder = out / "photo"
    folder.mkdir(parents=True)
    (folder / "scene.glb").write_bytes(b"not yours")
    publish_contents(out, NEW)
    assert without_manifest(folder) == {**NEW, "scene.glb.kept": b"not yours"}


@pytest.mark.parametrize("kind", ["file", "link"])
def test_never_replaces_what_is_no_folder(out: Path, kind: str) -> None:
    out.mkdir()
    (out / "elsewhere").mkdir()
    if kind == "file":
        (out / "photo").write_bytes(b"picture")
    else:
        (out / "photo").symlink_to("elsewhere")
    with pytest.raises(ResourceError, match="is not a folder"):
        publish_contents(out, NEW)
    assert (out / "photo").is_symlink() if kind == "link" else (out / "photo").read_bytes() == b"picture"


def test_notices_a_damaged_store(out: Path) -> None:
    publish_contents(out, OLD)
    store, files, manifest = make(out, NEW)
    store.path(files[0][1]).write_bytes(b"flipp")  # of the same size
    with pytest.raises(ResourceError, match="was damaged"):
        publish(store, out / "photo", files, manifest)
    assert without_manifest(out / "photo") == OLD


@pytest.mark.parametrize("name", ["/abs", "../up", "a/../b", "a//b", "./a", "", "manifest.json"])
def test_refuses_names_outside_the_folder(name: str) -> None:
    with pytest.raises(ExportError, match="relative path"):
        output_files([(name, Artifact(path="p", sha256="0", bytes=1))])


def test_refuses_one_name_twice() -> None:
    artifact = Artifact(path="p", sha256="0", bytes=1)
    with pytest.raises(ExportError, match="a occur twice"):
        output_files([("a", artifact), ("b", artifact), ("a", artifact)])


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema_version": 9}', '{"schema_version": 1}', "\udcff"])
def test_refuses_a_manifest_it_cannot_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=r"manifest\.json"):
        read_manifest(tmp_path)


# Faults ---------------------------------------------------------------------------------------------------------------


def operations(monkeypatch: pytest.MonkeyPatch, hook: Callable[[], None]) -> None:
    """Calls `hook` before every change publishing makes on the disk."""
    targets: list[tuple[Any, str]] = [(Path, "rename"), (Path, "mkdir"), (Path, "write_text"), (shutil, "copyfile")]
    for owner, name in [*targets, (shutil, "copy2"), (shutil, "rmtree"), (os, "fsync"), (os, "unlink"), (os, "rmdir")]:
        original = getattr(owner, name)

        def hooked(*args: Any, _original: Any = original, **kwargs: Any) -> Any:
            hook()
            return _original(*args, **kwargs)

        monkeypatch.setattr(owner, name, hooked)


def count_operations(monkeypatch: pytest.MonkeyPatch, work: Callable[[], Any]) -> int:
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1

    with monkeypatch.context() as patch:
        operations(patch, tick)
        work()
    return count


def in_child(work: Callable[[], Any]) -> int:
    """The wait status of a forked child that does `work`."""
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return os.waitpid(pid, 0)[1]


@pytest.mark.parametrize("deleted", [False, True])
def test_killed_at_every_operation(monkeypatch: pytest.MonkeyPatch, out: Path, deleted: bool) -> None:
    """Wherever SIGKILL strikes, the next run finds the old folder or the new one, whole, with the user's file.

    And where the user then deletes the folder, the next run does not come up with half of one.
    """
    store, files, manifest = make(out, NEW)
    new_text = manifest.text().encode()

    def reset() -> bytes:
        shutil.rmtree(out / "photo", ignore_errors=True)
        publish_contents(out, OLD)
        (out / "photo" / "mine.txt").write_bytes(b"mine")
        return (out / "photo" / "manifest.json").read_bytes()

    def work() -> bool:
        return publish(store, out / "photo", files, manifest)

    old_text = reset()
    total = count_operations(monkeypatch, work)
    assert total > 10
    seen = set()
    for fatal in range(total):
        reset()
        done = 0

        def strike(fatal: int = fatal) -> None:
            nonlocal done
            if done == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1

        with monkeypatch.context() as patch:
            operations(patch, strike)
            status = in_child(work)
        assert os.WTERMSIG(status) == signal.SIGKILL
        present = (out / "photo").exists()
        if deleted:
            shutil.rmtree(out / "photo", ignore_errors=True)
        heal(store, out)
        if deleted and not (out / "photo").exists():
            continue
        found = contents(out / "photo")
        assert found.pop("mine.txt") == b"mine"
        text = found.pop("manifest.json")
        assert (found, text) in ((OLD, old_text), (NEW, new_text)), f"half a folder after operation {fatal}"
        seen.add((present, text == new_text))
        assert work() is (text != new_text)
    # The strikes covered: before the swap, between its two renames, after it.
    assert deleted or seen == {(True, False), (False, False), (True, True)}


@pytest.mark.slow
def test_killed_at_random_moments(out: Path) -> None:
    big = {f"part{i}": os.urandom(200_000) for i in range(10)}
    one, two = {**big, "scene.glb": b"one"}, {**big, "scene.glb": b"two!"}
    made = [make(out, one), make(out, two)]
    publish(made[0][0], out / "photo", made[0][1], made[0][2])
    pid = os.fork()
    kills = 0
    for round_ in range(60):
        if pid == 0:
            while True:
                for store, files, manifest in made:
                    publish(store, out / "photo", files, manifest)
        time.sleep(0.002 * (round_ % 17) + 0.001)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        kills += 1
        heal(made[0][0], out)
        assert without_manifest(out / "photo") in (one, two)
        pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert kills == 60


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_an_error_at_every_operation(monkeypatch: pytest.MonkeyPatch, out: Path, code: int) -> None:
    """Whichever write fails, the error says so and a whole folder stands, without a repair."""
    store, files, manifest = make(out, NEW)

    def attempt() -> str:
        try:
            publish(store, out / "photo", files, manifest)
        except ResourceError as error:
            return str(error)
        return ""

    outcomes = []
    done = 0
    while done >= len(outcomes):  # until there is no such operation: every one has failed once
        publish_contents(out, OLD)
        done = 0

        def fail(fatal: int = len(outcomes)) -> None:
            nonlocal done
            done += 1
            if done == fatal + 1:
                raise OSError(code, os.strerror(code))

        with monkeypatch.context() as patch:
            operations(patch, fail)
            message = attempt()
        found = without_manifest(out / "photo")
        assert found in (OLD, NEW)
        assert found == NEW if message == "" else os.strerror(code) in message
        outcomes.append((found == NEW, message == ""))
    assert outcomes[-1] == (True, True)
    # Most fail before the swap; after it only the old folder's removal can.
    assert outcomes.count((False, False)) > 10


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(small_disk: Path) -> None:
    out = small_disk / "out"
    out.mkdir()
    publish_contents(out, OLD)
    # 150 kB fit once, into the store, but not a second time into the folder.
    with pytest.raises(ResourceError, match="No space left"):
        publish_contents(out, {"scene.glb": os.urandom(150_000)})
    assert without_manifest(out / "photo") == OLD
    assert sorted(path.name for path in out.iterdir()) == [".scenegen", "photo"]


def test_a_read_only_disk(small_disk: Path) -> None:
    out = small_disk / "out"
    out.mkdir()
    store, files, manifest = make(out, NEW)
    publish_contents(out, OLD)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(ResourceError, match="Read-only"):
        publish(store, out / "photo", files, manifest)
    assert without_manifest(out / "photo") == OLD


def test_a_file_size_limit(out: Path) -> None:
    store, files, manifest = make(out, {"scene.glb": os.urandom(200_000)})
    publish_contents(out, OLD)

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            publish(store, out / "photo", files, manifest)
        except ResourceError:
            os._exit(5)

    assert os.waitstatus_to_exitcode(in_child(work)) == 5
    assert without_manifest(out / "photo") == OLD


def test_two_writers_at_once(out: Path) -> None:
    """Every moment between, and at the end, the folder is one of the two, or is restored."""
    made = [make(out, {"scene.glb": b"one", "x": b"1"}), make(out, {"scene.glb": b"two", "y": b"2"})]

    def work() -> None:
        for _ in range(30):
            for store, files, manifest in made:
                publish(store, out / "photo", files, manifest)

    pids = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                work()
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0, 0]
    heal(made[0][0], out)
    found = without_manifest(out / "photo")
    assert found["scene.glb"] in (b"one", b"two")
    assert read_manifest(out / "photo").outputs in (made[0][2].outputs, made[1][2].outputs)
    assert list((made[0][0].root / module.REPLACED).iterdir()) == []
