"""From words to photos, companions and safe folder names."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scenegen.errors import InputError
from scenegen.inputs.options import InputOptions
from scenegen.inputs.photos import (
    MAX_NAME,
    MAX_NAME_BYTES,
    Inputs,
    companions,
    folder_names,
    is_single,
    mesh_number,
    safe_name,
)

NASTY = st.text(
    st.one_of(st.sampled_from('./\\:*?"<>|\0\n\x7f -_aAéÉß\uff21\u0301\u202e\ud800'), st.characters()), max_size=300
)


@given(NASTY)
@example("..")
@example("")
@example("con")
@example("LPT1 .txt")
@example("..con")
@example("a" * 119 + " .b")
@example("é" * 500)
@example("\U0001f600" * 200)
@example("e\u0301")
def test_safe_names_stay_inside(text: str) -> None:
    name = safe_name(text)
    assert Path("out", name).parent == Path("out")
    assert name == unicodedata.normalize("NFC", name)
    assert 0 < len(name) <= MAX_NAME
    assert len(name.encode()) <= MAX_NAME_BYTES
    assert not set(name) & set('/\\<>:"|?*')
    assert not any(unicodedata.category(char)[0] == "C" for char in name)
    assert name[0] not in ". "
    assert name[-1] not in ". "
    assert name.split(".")[0].strip().upper() not in {"CON", "PRN", "AUX", "NUL", "COM1", "LPT9", "COM¹"}
    assert safe_name(name) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("photo", "photo"),
        ("IMG 0001 (2)", "IMG 0001 (2)"),
        (".hidden", "hidden"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("a:b", "a_b"),
        ("nul.tar", "_nul.tar"),
        ("console", "console"),
        ("Küche", "Küche"),
        ("", "photo"),
        ("...", "photo"),
    ],
)
def test_safe_name_examples(text: str, name: str) -> None:
    assert safe_name(text) == name


@given(st.lists(NASTY.filter(lambda text: "\0" not in text and "/" not in text), max_size=8))
def test_folder_names_differ_to_every_file_system(stems: list[str]) -> None:
    photos = [Path(f"{i}") / f"x{stem}.jpg" for i, stem in enumerate(stems)]
    names = folder_names(photos, Path("/nowhere"))
    folded = {unicodedata.normalize("NFKC", name).casefold() for name in names}
    plain = {unicodedata.normalize("NFC", name.casefold()) for name in names}
    assert len(plain) == len(names) >= len(folded)
    assert names == folder_names(photos, Path("/nowhere"))
    assert all(0 < len(name) <= MAX_NAME and len(name.encode()) <= MAX_NAME_BYTES + 4 for name in names)


def test_folder_names_count_up(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    photos = [Path("a.jpg"), Path("a.png"), Path("A.jpg"), Path("a-2.jpg"), Path("e\u0301.jpg"), Path("é.jpg")]
    assert folder_names(photos, tmp_path) == ["a", "a-2", "A-3", "a-2-2", "é", "é-2"]
    assert "a.png: the name a is taken, so its folder is a-2" in caplog.text


def test_folder_names_avoid_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "photo").write_text("a picture without a suffix")
    (tmp_path / "other").mkdir()
    assert folder_names([tmp_path / "photo", tmp_path / "other.jpg"], tmp_path) == ["photo-2", "other"]


@pytest.fixture
def album(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "notes.txt", "c.webp", "sub/d.jpg"):
        path = tmp_path / "album" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "album"


def test_is_single(album: Path) -> None:
    assert is_single([str(album / "b.png")])
    assert is_single([str(album / "missing.png")])
    assert not is_single([str(album)])
    assert not is_single([str(album / "*.png")])
    assert not is_single([str(album / "b.png"), str(album / "a.JPG")])


def test_companions_of_a_single_photo(album: Path) -> None:
    photo, masks = album / "a.JPG", album / "sub"
    (album / "x.npy").touch()
    assert companions(photo, "a", InputOptions(), True) == Inputs("a", photo)
    assert companions(photo, "a", InputOptions(album / "b.png", album / "x.npy"), True) == Inputs(
        "a", photo, (album / "b.png",), album / "x.npy"
    )
    (masks / "e.png").touch()
    assert companions(photo, "a", InputOptions(masks), True).masks == (masks / "d.jpg", masks / "e.png")
    (album / "empty").mkdir()
    with pytest.raises(InputError, match="holds no picture"):
        companions(photo, "a", InputOptions(album / "empty"), True)


def test_companions_of_several_photos(album: Path, tmp_path: Path) -> None:
    masks, depths = tmp_path / "masks", tmp_path / "depths"
    for name in ("masks/a.png", "masks/b/1.png", "masks/b/2.png", "depths/a.npy", "depths/b.exr", "depths/b.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert companions(album / "a.JPG", "a", InputOptions(masks, depths), False) == Inputs(
        "a", album / "a.JPG", (masks / "a.png",), depths / "a.npy"
    )
    assert companions(album / "b.png", "b", InputOptions(masks, depths), False) == Inputs(
        "b", album / "b.png", (masks / "b" / "1.png", masks / "b" / "2.png"), depths / "b.exr"
    )
    with pytest.raises(InputError, match=r"one entry named c for c\.webp; it has none"):
        companions(album / "c.webp", "c", InputOptions(masks), False)
    (depths / "a.png").touch()
    with pytest.raises(InputError, match=r"it has a\.npy, a\.png"):
        companions(album / "a.JPG", "a", InputOptions(depth=depths), False)
    with pytest.raises(InputError, match="for several photos it must be a folder"):
        companions(album / "a.JPG", "a", InputOptions(album / "b.png"), False)


def test_the_camera_of_a_photo(album: Path, tmp_path: Path) -> None:
    photo, sparse = album / "a.JPG", tmp_path / "sparse"
    sparse.mkdir()
    for name in ("cameras.txt", "images.txt", "points3D.txt"):
        (sparse / name).touch()
    both = (sparse / "cameras.txt", sparse / "images.txt")
    assert companions(photo, "a", InputOptions(camera=sparse), False).camera == both
    assert companions(photo, "a", InputOptions(camera=both[0]), True).camera == both
    both[1].unlink()
    assert companions(photo, "a", InputOptions(camera=sparse), True).camera == both[:1]
    cameras = tmp_path / "cameras"
    cameras.mkdir()
    (cameras / "a.json").touch()
    assert companions(photo, "a", InputOptions(camera=cameras), False).camera == (cameras / "a.json",)
    with pytest.raises(InputError, match=r"one entry named b for b\.png"):
        companions(album / "b.png", "b", InputOptions(camera=cameras), False)
    with pytest.raises(InputError, match=r"`camera` .* does not exist"):
        companions(photo, "a", InputOptions(camera=tmp_path / "none.json"), True)


def test_masks_come_in_the_order_people_count_in_and_without_the_photo(album: Path, tmp_path: Path) -> None:
    photo, masks = album / "b.png", tmp_path / "masks"
    masks.mkdir()
    photo.write_bytes(b"the photo")
    for name in ("10.png", "2.png", "0.png", "image.png", "metadata.csv"):
        (masks / name).write_text(name)
    (masks / "copy.png").write_bytes(b"the photo")
    found = companions(photo, "b", InputOptions(masks), True).masks
    assert [path.name for path in found] == ["0.png", "2.png", "10.png"]


def test_one_file_may_hold_all_masks(album: Path, tmp_path: Path) -> None:
    coco, folder = tmp_path / "coco.json", tmp_path / "masks"
    coco.touch()
    for name in ("a.JPG", "b.png"):
        assert companions(album / name, "x", InputOptions(coco), False).masks == (coco,)
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "masks.npz").touch()
    (folder / "b.json").touch()
    assert companions(album / "a.JPG", "a", InputOptions(folder), False).masks == (folder / "a" / "masks.npz",)
    assert companions(album / "b.png", "b", InputOptions(folder), False).masks == (folder / "b.json",)


def test_meshes_are_named_after_their_objects(album: Path, tmp_path: Path) -> None:
    folder = tmp_path / "meshes"
    folder.mkdir()
    for name in ("10.glb", "2.glb", "03_mug.GLB", "notes.txt"):
        (folder / name).touch()
    found = companions(album / "b.png", "b", InputOptions(meshes=folder), True).meshes
    assert [(path.name, mesh_number(path)) for path in found] == [("2.glb", 2), ("03_mug.GLB", 3), ("10.glb", 10)]
    (folder / "2_again.glb").touch()
    with pytest.raises(InputError, match="several meshes of object 2"):
        companions(album / "b.png", "b", InputOptions(meshes=folder), True)
    (folder / "4.obj").touch()
    with pytest.raises(InputError, match=r"holds 4.obj; only .glb is read. Export each mesh as GLB"):
        companions(album / "b.png", "b", InputOptions(meshes=folder), True)
    for name in ("mug.glb", "0.glb", "65535.glb"):
        with pytest.raises(InputError, match="name each mesh after the id of its object"):
            mesh_number(Path(name))
    (folder / "b").mkdir()
    with pytest.raises(InputError, match=r"holds no \.glb file"):
        companions(album / "b.png", "b", InputOptions(meshes=folder), False)
    with pytest.raises(InputError, match="is not a folder"):
        companions(album / "a.JPG", "a", InputOptions(meshes=folder), False)
