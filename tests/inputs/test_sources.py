"""What a source names, in which order, under which names; and how a photo is brought here."""

from __future__ import annotations

import contextlib
import logging
import unicodedata
import uuid
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from scenegen.errors import InputError, ResourceError, UsageError
from scenegen.inputs.options import InputOptions
from scenegen.inputs.photos import MAX_NAME_BYTES, TABLES, safe_name
from scenegen.inputs.sources import Beside, Item, fetch, list_photos, list_scenes
from scenegen.store.folder import RemoteFolder, connect

NASTY = st.text(
    st.one_of(st.sampled_from('./\\:*?"<>| -_aAéÉßi\u0307\u0130\uff21\u0301\u202e'), st.characters(codec="utf-8")),
    max_size=80,
)


@pytest.fixture
def album(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "notes.md", "c.webp", "sub/d.jpg"):
        path = tmp_path / "album" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "album"


@pytest.fixture
def bucket() -> RemoteFolder:
    folder = RemoteFolder(f"memory://{uuid.uuid4().hex}")
    for name in ("b.png", "a.JPG", "notes.md", "50%.webp", "sub/a.jpg"):
        folder.write(name, name.encode())
    return folder


def names(source: str | Path) -> list[str]:
    return [item.name for item in list_photos(str(source)).items]


def test_local_sources(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert names(album) == names(album.as_uri()) == ["a", "b", "c"]
    assert names(album / "**" / "*.jpg") == ["d"]
    assert names(album / "notes.md") == ["notes"]  # named by the user: reading it will tell
    monkeypatch.chdir(album)
    assert list_photos("b.png").items == (Item(image=str(album / "b.png"), name="b"),)
    for source, message in (("gone", "does not exist"), ("*.gif", "matches no file"), ("empty.txt", "names no photo")):
        (album / "empty.txt").touch()
        with pytest.raises(UsageError, match=message):
            list_photos(source)


@pytest.mark.parametrize("remote", [False, True])
def test_a_folder_for_each_scene_of_several_photos(tmp_path: Path, remote: bool) -> None:
    place = f"memory://{uuid.uuid4().hex}" if remote else str(tmp_path)
    folder = RemoteFolder(place) if remote else None
    for name in (
        "desk/b.png",
        "desk/a.JPG",
        "desk/notes.md",
        "shelf.v2/1.webp",
        "shelf.v2/2.webp",
        "alone/a.png",
        "x.png",
    ):
        if folder is None:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        else:
            folder.write(name, name.encode())
    listing = list_scenes(place)
    assert [item.name for item in listing.items] == ["desk", "shelf.v2"]
    assert [[Path(photo).name for photo in item.photos] for item in listing.items] == [
        ["a.JPG", "b.png"],
        ["1.webp", "2.webp"],
    ]
    assert [Path(item.place).name for item in listing.skipped] == ["alone", "notes.md"]
    assert "holds 1 photo(s)" in listing.skipped[0].reason
    (tmp_path / "l.txt").write_text(f"{place}/desk\n")
    assert [item.name for item in list_scenes(str(tmp_path / "l.txt")).items] == ["desk"]
    with pytest.raises(UsageError, match="names no scene of several photos"):
        list_scenes(f"{place}/desk")


def test_files_beside_the_photos_of_scenes(tmp_path: Path) -> None:
    """Every scene whose files are not there is named with the reason."""
    for name in (
        *("shots/desk/a.png", "shots/desk/b.png", "shots/shelf/a.png", "shots/shelf/b.png"),
        *("shots/alone/a.png", "shots/wall/a.png", "shots/wall/b.png"),
        *("masks/desk/a.png", "masks/desk/b/1.png", "masks/desk/b/2.png", "masks/shelf/a.png"),
        *("cameras/desk.json", "cameras/shelf.json", "cameras/wall.json"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    options = InputOptions(masks=tmp_path / "masks", camera=tmp_path / "cameras")
    listing = list_scenes(str(tmp_path / "shots"), options)
    (item,) = listing.items
    inputs = item.inputs([Path(photo) for photo in item.photos])
    assert (inputs.folder, inputs.name, inputs.others[0].name) == ("desk", "a", "b")
    assert inputs.masks == (tmp_path / "masks/desk/a.png",)
    assert [path.name for path in inputs.others[0].masks] == ["1.png", "2.png"]
    assert inputs.others[0].camera == (tmp_path / "cameras/desk.json",)
    assert {Path(each.place).name: each.failed for each in listing.skipped} == dict.fromkeys(
        ("alone", "shelf", "wall"), True
    )
    assert "one entry named b for b.png" in listing.skipped[1].reason
    assert "one entry named wall" in listing.skipped[2].reason
    with pytest.raises(UsageError, match="drop --meshes"):
        list_scenes(str(tmp_path / "shots"), InputOptions(meshes=tmp_path / "cameras"))


def test_files_beside_single_photos(tmp_path: Path) -> None:
    for name in ("shots/a.png", "shots/b.png", "meshes/a/3.glb"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    listing = list_photos(str(tmp_path / "shots"), InputOptions(meshes=tmp_path / "meshes"))
    assert [item.beside for item in listing.items] == [(Beside(meshes=(str(tmp_path / "meshes/a/3.glb"),)),)]
    assert [(Path(each.place).name, each.failed) for each in listing.skipped] == [("b.png", True)]


def test_remote_sources(bucket: RemoteFolder) -> None:
    items = list_photos(bucket.url).items
    assert [item.name for item in items] == ["50%", "a", "b"]
    assert items[1].image == bucket.address("a.JPG").replace("memory://", "memory:///")
    assert names(bucket.address("**/*.jpg")) == ["a"]
    with pytest.raises(UsageError, match="copy the photos here"):
        list_photos(bucket.url, InputOptions(masks=Path("masks")))
    assert names(bucket.address("notes.md")) == ["notes"]
    with pytest.raises(UsageError, match="names no photo"):
        list_photos(bucket.address("nowhere"))


def test_lists(album: Path, bucket: RemoteFolder) -> None:
    text = f"# photos\n\n b.png \n{album}/a.JPG\n{bucket.address('a.JPG')}\nb.png\nsub/d.jpg\n"
    (album / "all.txt").write_text(text)
    items = list_photos(str(album / "all.txt")).items
    assert [item.name for item in items] == ["b", "a", "a-2", "d"]  # in its order, each once
    assert items[0].image == str(album / "b.png")
    bucket.write("all.list", b"sub/a.jpg\n/photos/x.jpg\n")
    assert list_photos(bucket.address("all.list")).items[0].image == bucket.address("sub/a.jpg")
    (album / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not text"):
        list_photos(str(album / "binary.txt"))
    with pytest.raises(UsageError, match="cannot be read"):
        list_photos(str(album / "gone.txt"))


def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "caf\udce9.jpg"
    path.write_text("picture")
    (item,) = list_photos(str(tmp_path)).items
    item.model_dump_json().encode()
    assert fetch(item.image, tmp_path).read_text() == "picture"


@given(st.lists(NASTY, min_size=1, max_size=8, unique=True))
def test_names_stay_inside_and_differ_to_every_file_system(stems: list[str]) -> None:
    logging.disable(logging.WARNING)  # of names that are taken
    url = f"memory://{uuid.uuid4().hex}"
    folder = RemoteFolder(url)
    lines = [f"s3://bucket/{i}/x{stem}.jpg" for i, stem in enumerate(stems) if len(f"{stem}.".splitlines()) == 1]
    lines += [
        "s3://bucket/..",
        "s3://bucket/batch.csv.jpg",
        "s3://bucket/../../etc/passwd",
        "s3://bucket/.scenegen.jpg",
    ]
    folder.write("l.txt", "\n".join(lines).encode())
    found = names(f"{url}/l.txt")
    logging.disable(logging.NOTSET)
    assert found == names(f"{url}/l.txt")
    for form in ("NFC", "NFD"):
        assert len({unicodedata.normalize(form, name.casefold()) for name in found}) == len(found)
    for name in found:
        assert name == name.strip("/ ")
        assert Path("/out", name).resolve().parent == Path("/out")
        assert name[0] != "."
        assert len(name.encode()) <= MAX_NAME_BYTES + 4
        assert name not in TABLES


@given(NASTY)
@example("..")
@example("../../etc")
@example("a-2/../../b-3")
@example("/etc-2")
@example("con-2")
@example("-2")
def test_an_item_from_anywhere_stays_inside(name: str) -> None:
    """Items also come from the parameters of flow runs, which others may set."""
    assert Item(image="a.jpg", name=safe_name(name)).name == safe_name(name)
    with contextlib.suppress(ValidationError):
        item = Item(image="a.jpg", name=name)
        assert Path("/out", item.name).resolve().parent == Path("/out")
        assert item.name[0] != "."
    if "/" in name or name.startswith(".") or not name.strip():
        with pytest.raises(ValidationError, match="is not a safe folder name"):
            Item(image="a.jpg", name=name)


def test_fetch(album: Path, bucket: RemoteFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fetch(str(album / "b.png"), tmp_path) == album / "b.png"
    copy = fetch(bucket.address("a.JPG"), tmp_path)
    assert (copy.name, copy.read_bytes()) == ("a.JPG", b"a.JPG")
    with pytest.raises(InputError, match="does not exist"):
        fetch(bucket.address("gone.jpg"), tmp_path)
    monkeypatch.setattr("scenegen.inputs.sources.MAX_INPUT_BYTES", 3)
    with pytest.raises(InputError, match="at most 3 bytes"):
        fetch(bucket.address("a.JPG"), tmp_path)


def test_what_cannot_be_reached(bucket: RemoteFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dead(*args: object, **options: object) -> None:
        raise ConnectionError("refused")

    files, _ = connect(bucket.url)
    monkeypatch.setattr(files, "ls", dead)
    monkeypatch.setattr(files, "open", dead)
    with pytest.raises(ResourceError, match="refused"):
        list_photos(bucket.url)
    with pytest.raises(ResourceError, match="refused"):
        fetch(bucket.address("a.JPG"), tmp_path)
