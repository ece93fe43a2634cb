"""One photo's work and what stands: done is recognised from what is published, failures stay apart."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from scenegen.compute.runtime import Runtime
from scenegen.config import Config, load_config
from scenegen.edits.steps import FieldOfViewEdit
from scenegen.errors import ResourceError
from scenegen.export.manifest import Manifest, read_manifest
from scenegen.inputs.options import InputOptions
from scenegen.inputs.sources import Item, list_photos
from scenegen.messages.progress import Event
from scenegen.records import RemoveEdit
from scenegen.store.digest import sha256_file
from scenegen.store.folder import RemoteFolder
from stages import batch
from stages.batch import Job, Row, failed_row, keep, pending, plan, run_item, run_items, standing, thumbnail
from stages.layers import local_submit
from stages.replay import read_edits, replay, write_edits
from stages.run import open_store, regenerate
from stages.table import write_table


@pytest.fixture
def shop(bench: Any, tmp_path: Path) -> Any:
    """The stand-ins, and three photos."""
    (tmp_path / "photos").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "photos" / f"{name}.jpg").write_text(f"picture {name}")
    bench.unreadable = "picture b"
    return bench


@pytest.fixture(params=["folder", "url"])
def job(request: pytest.FixtureRequest, shop: Any, tmp_path: Path) -> Job:
    out = str(tmp_path / "out") if request.param == "folder" else f"memory://{uuid.uuid4().hex}/out"
    if request.param == "s3":
        out = f"{request.getfixturevalue('bucket_url')}/out"
    return plan(out, Config(), Runtime(), tmp_path / "cache")


def items(tmp_path: Path) -> tuple[Item, ...]:
    return list_photos(str(tmp_path / "photos")).items


def states(rows: tuple[Row, ...]) -> list[str]:
    return [row.state for row in rows]


def with_config(job: Job, *settings: str) -> Job:
    return job.model_copy(update={"config": load_config(overrides=settings)})


def run_all(job: Job, tmp_path: Path) -> list[Row]:
    return [run_item(item, job) for item in items(tmp_path)]


def read(job: Job, name: str) -> bytes | None:
    return batch.open_outlet(job).folder.read(name)


def test_a_batch_with_a_bad_photo_and_a_bad_object(job: Job, shop: Any, tmp_path: Path) -> None:
    shop.errors["generate 2"] = ValueError("no surface")
    a, b, c = run_all(job, tmp_path)
    assert (a.state, a.objects, a.failed_objects, a.exit_code) == ("partial", 2, 1, 6)
    assert a.error == "generate 2: ValueError: no surface"
    assert a.silhouette_iou == pytest.approx(0.92)
    assert (b.state, b.output, b.exit_code) == ("failed", "", 3)
    assert "is no picture" in b.error
    assert c.state == "partial"
    published = read(job, "a/manifest.json")
    assert published is not None
    for file in Manifest.model_validate_json(published).outputs:
        content = read(job, f"a/{file.name}")
        assert content is not None
        assert len(content) == file.bytes
    assert read(job, "b/manifest.json") is None


def test_a_second_run_executes_nothing(job: Job, shop: Any, tmp_path: Path) -> None:
    first = run_all(job, tmp_path)
    shop.executed.clear()
    rows = standing(items(tmp_path), job)
    assert rows == tuple(first)
    assert [item.name for item in pending(items(tmp_path), rows)] == ["b"]
    assert run_item(items(tmp_path)[0], job) == first[0]
    assert not shop.executed


@pytest.mark.parametrize("job", ["folder"], indirect=True)
def test_files_beside_a_photo_belong_to_its_content(job: Job, shop: Any, tmp_path: Path) -> None:
    masks = tmp_path / "masks" / "c.png"
    masks.parent.mkdir()
    masks.write_text("masks")
    plain, listing = items(tmp_path)[2], list_photos(str(tmp_path / "photos"), InputOptions(masks=masks.parent))
    assert [(Path(each.place).name, each.failed) for each in listing.skipped] == [("a.jpg", True), ("b.jpg", True)]
    row = run_item(listing.items[0], job)
    assert row.state == "complete"
    assert standing(listing.items, job) == (row,)
    assert standing((plain,), job)[0].state == "missing"
    masks.write_text("other masks")
    assert standing(listing.items, job)[0].state == "missing"


@pytest.mark.parametrize("damage", ["gone", "cut short", "changed", "folder gone"])
def test_a_scene_that_is_not_there_is_published_again(
    job: Job, shop: Any, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    a, _, _ = items(tmp_path)
    row = run_item(a, job)
    outlet, name = batch.open_outlet(job), "a/scene.glb"
    content = outlet.folder.read(name)
    assert content is not None
    if damage == "changed":
        if outlet.remote is not None:
            pytest.skip("an object store tells sizes only")
        outlet.folder.write(name, bytes([content[0] ^ 1]) + content[1:])
    elif damage == "cut short":
        outlet.folder.write(name, content[:-1])
    else:
        for file in read_names(job, "a") if damage == "folder gone" else (name,):
            outlet.folder.remove(file)
    shop.executed.clear()
    assert standing((a,), job)[0].state == "missing"
    assert caplog.text.count("missing or damaged") == 1
    again = run_item(a, job)
    assert again.model_copy(update={"files": row.files}) == row
    assert not shop.executed
    assert outlet.folder.read(name) == content
    assert standing((a,), job)[0].done


def read_names(job: Job, name: str) -> list[str]:
    content = read(job, f"{name}/manifest.json")
    assert content is not None
    return [f"{name}/{file.name}" for file in Manifest.model_validate_json(content).outputs]


@pytest.mark.parametrize("job", ["folder"], indirect=True)
def test_published_files_are_read_once(job: Job, shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, _, _ = items(tmp_path)
    run_item(a, job)
    (Path(job.out) / "a" / "scene.glb").touch()  # perhaps changed
    read_whole: list[Path] = []

    def counted(path: Path) -> str:
        read_whole.append(path)
        return sha256_file(path)

    monkeypatch.setattr(batch, "sha256_file", counted)
    for expected in (True, False):
        read_whole.clear()
        assert standing((a,), job)[0].done
        assert (Path(job.out) / "a" / "scene.glb" in read_whole) == expected


@pytest.mark.parametrize("job", ["url"], indirect=True)
def test_another_machine_finds_what_is_done(job: Job, shop: Any, tmp_path: Path) -> None:
    first = run_all(job, tmp_path)
    shop.executed.clear()
    other = job.model_copy(update={"cache": str(tmp_path / "other")})
    assert run_item(items(tmp_path)[0], other) == first[0]
    assert not shop.executed
    # And what is half done: every stage is there, only the publication is not.
    batch.open_outlet(job).folder.remove("a/manifest.json")
    assert run_item(items(tmp_path)[0], other) == first[0]
    assert not shop.executed


def test_what_makes_a_photo_undone(job: Job, shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (a, _, _) = items(tmp_path)
    assert run_item(a, job).done

    def state(job: Job) -> str:
        return standing((a,), job)[0].state

    assert state(job) == "complete"
    assert state(with_config(job, "seed=1")) == "missing"
    assert state(with_config(job, "objects.2.seed=4")) == "missing"
    assert state(job.model_copy(update={"weights": {"segment": {"net": "newer"}}})) == "missing"
    monkeypatch.setattr(batch, "__version__", "9999")
    assert state(job) == "missing"
    monkeypatch.undo()
    Path(a.image).write_text("another picture")
    assert state(job) == "missing"


@pytest.mark.parametrize("job", ["folder"], indirect=True)
def test_an_object_made_anew_by_hand_stays(job: Job, shop: Any, tmp_path: Path) -> None:
    (a, _, _) = items(tmp_path)
    run_item(a, job)
    folder = Path(job.out) / "a"
    store, runtime = open_store(Path(job.out)), Runtime()
    with ThreadPoolExecutor(1) as executor:
        regenerate(folder, 2, 7, store, runtime, local_submit(store, runtime, executor))
    assert standing((a,), job)[0].done
    run_item(a, job)
    assert [placed.seed for placed in read_manifest(folder).objects] == [0, 7, 0]


@pytest.mark.parametrize("job", ["folder"], indirect=True)
def test_an_edited_scene_is_left_to_whoever_edited_it(job: Job, shop: Any, tmp_path: Path) -> None:
    (a, _, _) = items(tmp_path)
    run_item(a, job)
    folder, store, runtime = Path(job.out) / "a", open_store(Path(job.out)), Runtime()
    edits = read_edits(folder, store)
    write_edits(folder, store, edits.after(RemoveEdit(object=1, shows="unknown")), 0)
    write_edits(folder, store, read_edits(folder, store).after(FieldOfViewEdit(degrees=50)), 1)
    with ThreadPoolExecutor(1) as executor:
        replay(folder, store, runtime, local_submit(store, runtime, executor))
    for each in (job, with_config(job, "seed=5")):
        assert standing((a,), each)[0].done
        run_item(a, each)
        assert [placed.id for placed in read_manifest(folder).objects] == [2, 3]
    # What is damaged is made again, as the edits say.
    (folder / "scene.glb").unlink()
    assert run_item(a, job).done
    assert read_manifest(folder).config.camera.fov_deg == 50
    # Even if nobody can read them.
    (folder / "edits.json").write_text("{")
    assert standing((a,), with_config(job, "seed=5"))[0].done
    Path(a.image).write_text("another picture")
    (folder / "edits.json").write_text(edits.after(RemoveEdit(object=1, shows="unknown")).text())
    assert standing((a,), job)[0].state == "missing"


def test_failed_and_missing(job: Job, shop: Any, tmp_path: Path) -> None:
    everything = items(tmp_path)
    assert states(standing(everything, job)) == ["missing"] * 3

    def names(**flags: bool) -> str:
        return "".join(item.name for item in pending(everything, standing(everything, job), **flags))

    assert (names(), names(failed=True), names(missing=True), names(failed=True, missing=True)) == (
        "abc",
        "",
        "abc",
        "abc",
    )
    shop.errors["generate 2"] = ValueError("no surface")
    run_item(everything[0], job)
    run_item(everything[1], job)
    assert states(standing(everything, job)) == ["partial", "failed", "missing"]
    assert (names(), names(failed=True), names(missing=True)) == ("abc", "ab", "c")
    shop.errors.clear()
    shop.executed.clear()
    for item in pending(everything, standing(everything, job), failed=True):
        run_item(item, job)
    assert states(standing(everything, job)) == ["complete", "failed", "missing"]
    # Of the scene that lacked an object only that, and what comes after it, was computed.
    assert shop.executed == {"generate 2": 1, "compose": 1, "export": 1, "report": 1, "read": 1}
    # A failure belongs to its configuration, and to its content.
    assert states(standing(everything, with_config(job, "seed=1"))) == ["missing"] * 3
    Path(everything[1].image).write_text("a better picture")
    assert names(missing=True) == "bc"
    assert run_item(everything[1], job).state == "complete"


def test_no_objects_is_done_though_partial(job: Job, shop: Any, tmp_path: Path) -> None:
    shop.objects = 0
    row = run_item(items(tmp_path)[0], job)
    assert (row.state, row.done, row.error) == ("partial", True, "no object was found")


@pytest.mark.parametrize("error", [ResourceError("full"), MemoryError(), RuntimeError("a\nsurprise"), KeyError("x")])
def test_every_failure_becomes_a_row(job: Job, shop: Any, tmp_path: Path, error: Exception) -> None:
    shop.errors["layout"] = error
    row = run_item(items(tmp_path)[0], job)
    assert row.state == "failed"
    assert row.exit_code == (5 if isinstance(error, ResourceError | MemoryError) else 1)
    assert "\n" not in row.error
    gone = Item(image=str(tmp_path / "gone.jpg"), name="gone")
    assert run_item(gone, job).exit_code == 3
    assert states(standing((items(tmp_path)[0], gone), job)) == ["failed", "failed"]
    shop.errors.clear()
    assert run_item(items(tmp_path)[0], job).state == "complete"


def test_offline_reaches_no_url(job: Job, shop: Any) -> None:
    row = run_item(Item(image="s3://bucket/a.jpg", name="a"), job.model_copy(update={"offline": True}))
    assert (row.state, row.exit_code) == ("failed", 2)
    assert "needs the network" in row.error


def test_damaged_rows_and_manifests_do_not_count(job: Job, shop: Any, tmp_path: Path) -> None:
    (a, b, _) = items(tmp_path)
    run_item(a, job)
    run_item(b, job)
    folder = batch.open_outlet(job).folder
    for content in (b"{", b"[]", b"\xff", b'{"schema_version": 7}'):
        folder.write("a/manifest.json", content)
        folder.write(".scenegen/batch/b.json", content)
        assert states(standing((a, b), job)) == ["missing", "missing"]
    assert run_item(a, job).state == "complete"


@pytest.mark.parametrize("job", ["url"], indirect=True)
def test_publication_at_a_url_is_whole_or_absent(
    job: Job, shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks at every possible moment: the manifest is never there without its files."""
    (a, _, _) = items(tmp_path)
    before = with_config(job, "seed=1")
    assert run_item(a, before).state == "complete"
    left = [0]
    for method in ("upload", "write", "remove"):
        plain = getattr(RemoteFolder, method)

        def limited(self: RemoteFolder, *words: Any, plain: Any = plain) -> Any:
            if "/out/a" in self.address(str(words[-1] if plain.__name__ == "upload" else words[0])):
                if left[0] == 0:
                    raise ResourceError("cannot reach")
                left[0] -= 1
            return plain(self, *words)

        monkeypatch.setattr(RemoteFolder, method, limited)
    breaks = 0
    while True:
        left[0] = breaks
        row = run_item(a, job)
        content = read(job, "a/manifest.json")
        if content is not None:
            for file in Manifest.model_validate_json(content).outputs:
                there = read(job, f"a/{file.name}")
                assert there is not None
                assert hashlib.sha256(there).hexdigest() == file.sha256
        if row.state == "complete":
            break
        assert row.exit_code == 5
        breaks += 1
    assert breaks == 7  # the old manifest, five files, the new manifest


@pytest.mark.parametrize("job", ["folder"], indirect=True)
def test_a_full_disk_then_space(job: Job, shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full from the n-th flush on, for every n: a clear failure, nothing half-written, and then it goes on."""
    (a, _, _) = items(tmp_path)
    plain, left, full = os.fsync, [0], 0

    def fsync(handle: int) -> None:
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left[0] -= 1
        plain(handle)

    monkeypatch.setattr("os.fsync", fsync)
    state = "failed"
    while state != "complete":
        left[0] = full
        row = run_item(a, job)
        state = row.state
        if state == "failed":
            assert row.exit_code == 5
            assert "No space left" in row.error
            assert not (Path(job.out) / "a").exists()
        staging = list((Path(job.out) / ".scenegen" / "staging").iterdir())
        assert staging == []
        full += 7
    left[0] = 1000
    assert run_item(a, job).done
    assert max(shop.executed[stage] for stage in ("read", "segment", "depth", "layout")) <= 2


def test_a_watch_is_told_what_becomes_of_the_stages(job: Job, shop: Any, tmp_path: Path) -> None:
    events: list[Event] = []
    assert run_item(items(tmp_path)[0], job, watch=events.append).state == "complete"
    assert [event.state for event in events if event.label == "read"] == ["waiting", "running", "done"]


def rejects(item: Item, job: Job) -> Row:
    """Runs in a child, where the stand-ins are not."""
    if item.name == "a":
        os._exit(9)
    return failed_row(item, job, "told to", 3, 0.5, None)


@pytest.mark.parametrize("job", ["folder"], indirect=True)
def test_a_child_that_dies_leaves_a_row(job: Job, tmp_path: Path) -> None:
    rows = {row.name: row for row in run_items(items(tmp_path)[:2], job, 2, 60, rejects)}
    assert sorted(rows) == ["a", "b"]
    assert "died 2 times (exit code 9)" in rows["a"].error
    assert rows["a"].exit_code == 5
    assert rows["b"].error == "told to"
    assert standing(items(tmp_path)[:1], job) == (rows["a"],)


def test_rows_that_cannot_be_kept_are_told(job: Job, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    row = failed_row(items(tmp_path)[0], job, "x", 3, 0, None)
    keep(row, job.model_copy(update={"out": str(tmp_path / "file" / "out")}))
    assert "cannot save its row" in caplog.text


def test_thumbnails(job: Job, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.new("RGBA", (1000, 10)).save(tmp_path / "x.png")
    assert thumbnail((tmp_path / "x.png").read_bytes()).startswith("data:image/jpeg;base64,")
    for content in (None, b"", b"\x89PNG", (tmp_path / "x.png").read_bytes()[:60]):
        assert thumbnail(content) == ""
    assert "cannot make a thumbnail" in caplog.text


def test_rows_are_plain_json(job: Job, shop: Any, tmp_path: Path) -> None:
    (a, _, _) = items(tmp_path)
    row = run_item(a, job)
    content = read(job, ".scenegen/batch/a.json")
    assert content is not None
    assert Row.model_validate(json.loads(content)) == row


@pytest.mark.parametrize("job", ["folder"], indirect=True)
def test_nothing_kept_or_logged_shows_a_secret(
    job: Job, shop: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A list may hold presigned URLs and passwords: they open a photo, and are told to nobody."""
    urls = ["https://me:hush@127.0.0.1:1/a.jpg?X-Amz-Signature=hush", "ftp://me:hush@127.0.0.1:1/b.jpg"]
    (tmp_path / "list.txt").write_text("\n".join(urls))
    caplog.set_level("DEBUG", "stages")
    rows = [run_item(item, job) for item in list_photos(str(tmp_path / "list.txt")).items]
    write_table(rows, batch.open_outlet(job).folder)
    assert [row.state for row in rows] == ["failed", "failed"]
    assert standing(list_photos(str(tmp_path / "list.txt")).items, job) == tuple(rows)
    written = [path for path in Path(job.out).rglob("*") if path.is_file()]
    assert len(written) >= 5
    assert not [path for path in written if b"hush" in path.read_bytes()]
    assert "hush" not in "".join(record.getMessage() for record in caplog.records)
