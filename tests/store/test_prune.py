"""What goes from a store: nothing that a scene was made with, nothing that a running job may have found."""

from __future__ import annotations

import json
import math
import os
import time
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenegen.cli import store_command
from scenegen.cli.commands import main
from scenegen.cli.store_command import parse_size
from scenegen.errors import InputError, UsageError
from scenegen.records import Artifact, Record
from scenegen.store import prune
from scenegen.store.folder import RemoteFolder
from scenegen.store.prune import Stored, expendable, list_stored
from scenegen.store.store import Store, entry_folder

MB = 10**6
KEYS = [f"{number:02x}" + "0" * 62 for number in range(4)]


class Named(Record):
    file: Artifact | None


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "out" / ".scenegen")


def commit(store: Store, key: str, names: Artifact | None = None) -> Artifact:
    """An entry of one file; its record may name a file of another."""
    with store.staging() as folder:
        (folder / "data.bin").write_bytes(key[:2].encode() * 500_000)
        store.commit(folder, "draw", key, Named(file=names), 1.0)
    path = f"{entry_folder('draw', key)}/data.bin"
    return Artifact(path=path, sha256=store.find("draw", key).files["data.bin"].sha256, bytes=MB)  # type: ignore[union-attr]


def publish(store: Store, photo: Artifact, *keys: str) -> None:
    """A scene made with the entries."""
    folder = store.root.parent / "photo"
    folder.mkdir()
    stages = [{"stage": "draw", "key": key} for key in keys]
    manifest = {"stages": stages, "source": {"photo": photo.model_dump(), "depth": None}}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def filled(store: Store, tmp_path: Path) -> Store:
    """Two photos; an entry that names a file of another; a scene made of these and one photo; two more entries."""
    photos = []
    for name in ("one", "two"):
        path = tmp_path / f"{name}.jpg"
        path.write_text(name)
        photos.append(store.ingest(path))
    commit(store, KEYS[1], commit(store, KEYS[0]))
    for key in KEYS[2:]:
        commit(store, key)
    publish(store, photos[0], KEYS[1])
    return store


def left(store: Store) -> list[str]:
    return sorted(item.path.name for item in list_stored(store) if item.stage != "input")


def inputs(store: Store) -> list[str]:
    return [item.path.read_text() for item in list_stored(store) if item.stage == "input"]


def test_what_no_scene_was_made_with_goes(filled: Store) -> None:
    assert {item.path.name for item in list_stored(filled) if item.needed} >= {KEYS[0], KEYS[1]}
    gone = prune.prune(filled, dry_run=True)
    assert len(gone) == 3
    assert left(filled) == KEYS
    assert prune.prune(filled) == gone
    assert left(filled) == KEYS[:2]
    assert inputs(filled) == ["one"]
    assert filled.find("draw", KEYS[1]) is not None
    assert list((filled.root / "staging").iterdir()) == []


def test_down_to_a_size_what_was_used_last_stays_and_the_photo_of_a_scene(filled: Store) -> None:
    long_ago = time.time() - 10**6
    os.utime(filled.root / entry_folder("draw", KEYS[0]) / "entry.json", (long_ago, long_ago))
    prune.prune(filled, max_bytes=round(1.5 * MB))
    assert left(filled) == [KEYS[1]]
    prune.prune(filled, max_bytes=0)
    assert left(filled) == []
    assert inputs(filled) == ["one"]


def test_a_running_job_keeps_what_it_may_have_found(filled: Store) -> None:
    long_ago = time.time() - 10**6
    os.utime(filled.root / entry_folder("draw", KEYS[2]) / "entry.json", (long_ago, long_ago))
    with filled.in_use():
        prune.prune(filled, max_bytes=0)
        assert left(filled) == [KEYS[0], KEYS[1], KEYS[3]]
    prune.prune(filled)
    assert left(filled) == KEYS[:2]


def test_a_job_that_was_killed_keeps_nothing(filled: Store) -> None:
    pid = os.fork()
    if pid == 0:
        with filled.in_use():
            os._exit(0)
    os.waitpid(pid, 0)
    assert filled.running_since() is None
    prune.prune(filled)
    assert left(filled) == KEYS[:2]


def test_what_is_looked_for_at_this_moment_stays(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job finds an entry between the choice of what goes and its removal."""
    choose = prune.expendable

    def late(*given: object) -> tuple[Stored, ...]:
        chosen = choose(*given)  # type: ignore[arg-type]
        assert filled.find("draw", KEYS[3]) is not None
        return chosen

    monkeypatch.setattr(prune, "expendable", late)
    gone = prune.prune(filled)
    assert KEYS[3] not in [item.path.name for item in gone]
    assert left(filled) == [*KEYS[:2], KEYS[3]]


def test_what_has_not_reached_the_mirror_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "out" / ".scenegen", RemoteFolder(f"memory://{uuid.uuid4().hex}"))
    commit(store, KEYS[0])
    with monkeypatch.context() as patch:
        patch.setattr(Store, "_push", lambda *given: None)
        commit(store, KEYS[1])
    prune.prune(store)
    assert left(store) == [KEYS[1]]


@given(
    st.lists(
        st.builds(
            Stored,
            st.sampled_from(["draw", "input"]),
            st.integers().map(lambda number: Path(str(number))),
            st.integers(0, 100),
            st.floats(0, 100),
            st.booleans(),
        ),
        max_size=20,
    ),
    st.none() | st.integers(0, 2000),
    st.floats(0, 100) | st.just(math.inf),
)
def test_what_is_chosen(stored: list[Stored], max_bytes: int | None, before: float) -> None:
    goes = expendable(stored, max_bytes, before)
    assert all(item.used < before for item in goes)
    assert not any(item.needed and item.stage == "input" for item in goes)
    assert all(item in goes for item in stored if item.used < before and not item.needed)
    rest = [item for item in stored if item not in goes]
    if max_bytes is None:
        assert not any(item.needed for item in goes)
    elif sum(item.bytes for item in rest) > max_bytes:
        assert all(item.used >= before or (item.needed and item.stage == "input") for item in rest)


@pytest.mark.parametrize("file", ["data.bin", "entry.json"])
def test_damage_is_found_and_removed(
    filled: Store, file: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    out = str(filled.root.parent)
    assert main(["store", "verify", out]) == 0
    path = filled.root / entry_folder("draw", KEYS[0]) / file
    content = path.read_bytes()
    path.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    (photo,) = [item.path for item in list_stored(filled) if item.stage == "input" and item.needed]
    photo.write_text("eno")
    assert main(["store", "verify", out]) == 5
    assert "4 of 6 stored results are intact; the others were removed" in capsys.readouterr().out
    assert left(filled) == KEYS[1:]
    assert main(["store", "verify", out]) == 0


def test_the_command(filled: Store, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(filled.root.parent)
    assert main(["store", "list", out]) == 0
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert lines["draw"][:3] == ["4", "4.0", "MB"]
    assert lines["all"][0] == "6"
    assert main(["store", "prune", out, "--dry-run"]) == 0
    assert "would remove 3 of 6 stored results, 2.0 MB" in capsys.readouterr().out
    assert main(["store", "prune", out, "--max-size", "1.5M"]) == 0
    assert "removed 4 of 6 stored results, 3.0 MB" in capsys.readouterr().out
    assert len(left(filled)) == 1
    for command in (["verify"], ["prune"]):
        assert main(["store", *command, "s3://bucket/out"]) == 2
    assert main(["store", "prune", out, "--max-size", "much"]) == 2
    assert main(["store", "list", out + "/none"]) == 3


def test_a_store_that_machines_share_is_listed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    url = f"memory://{uuid.uuid4().hex}/out"
    commit(Store(tmp_path / "one", RemoteFolder(f"{url}/.scenegen")), KEYS[0])
    assert main(["store", "list", url]) == 0
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert lines["draw"] == ["2", "1.0", "MB"]


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("500M", 5 * 10**8), ("1.5 GB", 15 * 10**8), ("2t", 2 * 10**12)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "-1", "1e3", "G", "5 X", "1.2.3", "nan"])
def test_other_sizes(text: str) -> None:
    with pytest.raises(UsageError, match="`max_size`"):
        parse_size(text)


def test_only_an_output_folder_has_a_store(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no store"):
        store_command.prune(str(tmp_path))
