"""Training pictures are read as they were written, from folders and archives; damaged ones are named."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from scenegen.errors import InputError
from scenegen.train.pack import pack_pictures
from scenegen.train.pictures import IGNORED, TrainingPicture, read_pictures
from tests.train.pictured import (
    CAMERA,
    CUP,
    DOWN,
    HEIGHT,
    WIDTH,
    made_picture,
    plane_depth,
    write_photographs,
    write_scenes,
)


def zipped(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder.with_name(folder.name + " archive")), "zip", folder))


@pytest.fixture(params=["folder", "zip"])
def scenes(request: pytest.FixtureRequest, tmp_path: Path) -> list[TrainingPicture]:
    folder = write_scenes(tmp_path / "scenes", 2)
    return read_pictures(folder if request.param == "folder" else zipped(folder))


@pytest.fixture(params=["folder", "zip"])
def photographs(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, TrainingPicture]:
    folder = write_photographs(tmp_path / "photographs")
    read = read_pictures(folder if request.param == "folder" else zipped(folder))
    return {picture.name: picture for picture in read}


def test_scenes_say_all_there_is_to_know(scenes: list[TrainingPicture]) -> None:
    assert [picture.name for picture in scenes] == ["000", "001"]
    true = made_picture()
    for read in scenes:
        np.testing.assert_array_equal(read.image, true.image)
        np.testing.assert_array_equal(read.ids, true.ids)
        assert read.exhaustive
        assert read.log_depth is not None
        assert (read.log_depth[:4] == np.inf).all()
        np.testing.assert_allclose(np.exp(read.log_depth[4:]), plane_depth()[4:], atol=0.0011)
        np.testing.assert_array_equal(read.camera, CAMERA)
        np.testing.assert_allclose(read.down, DOWN)
        assert read.nouns == {2: CUP}
        assert (read.split, read.licence) == ("train", "")


def test_photographs_say_what_their_index_says(photographs: dict[str, TrainingPicture]) -> None:
    assert list(photographs) == ["exhaustive", "partial", "salient", "none"]
    true = made_picture()
    for name, read in photographs.items():
        np.testing.assert_array_equal(read.image, true.image)
        expected = np.where(true.ids == 1, IGNORED, true.ids) if name != "none" else np.full_like(true.ids, IGNORED)
        np.testing.assert_array_equal(read.ids, expected)
        assert read.exhaustive == (name == "exhaustive")
        assert read.down is None
        assert (read.log_depth is None) == (name != "salient")
        assert (read.camera is None) == (name != "partial")
        assert read.group == f"of {name}"
    assert photographs["partial"].nouns == {2: CUP}
    assert photographs["none"].split == "test"
    assert photographs["partial"].licence == "CC BY-NC 4.0"
    focal = WIDTH / 2 / np.tan(np.radians(55 / 2))
    np.testing.assert_allclose(photographs["partial"].camera, [focal, focal, WIDTH / 2, HEIGHT / 2])
    depth = photographs["salient"].log_depth
    assert depth is not None
    assert (depth[:4] == -np.inf).all()
    np.testing.assert_allclose(np.exp(depth[4:]), plane_depth()[4:], atol=0.0011)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("image.png", b"nothing", r"image\.png is not a readable picture"),
        ("image.png", None, r"has none of image\.webp, image\.png, image\.jpg"),
        ("masks.png", b"nothing", r"masks\.png is not a readable picture"),
        ("masks.png", None, r"masks\.png is not a readable picture"),
        ("masks.png", cv2.imencode(".png", np.zeros((5, 5), np.uint8))[1].tobytes(), "for each pixel of the image"),
        ("depth.png", b"nothing", r"depth\.png is not a readable picture"),
        ("camera.json", b"{nothing", "damaged"),
        ("camera.json", b"{}", "damaged"),
        ("scene.json", b"[", "damaged"),
    ],
)
@pytest.mark.parametrize("archive", [False, True])
def test_damaged_scenes_are_refused(
    tmp_path: Path, file: str, content: bytes | None, message: str, archive: bool
) -> None:
    folder = write_scenes(tmp_path / "scenes", 1)
    path = folder / "000" / file
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_pictures(zipped(folder) if archive else folder)


def test_damaged_tables_and_archives_are_refused(tmp_path: Path) -> None:
    folder = write_photographs(tmp_path / "photographs")
    (folder / "index.csv").write_text("name,masks\nexhaustive,exhaustive\n")
    with pytest.raises(InputError, match="another layout"):
        read_pictures(folder)
    (folder / "index.csv").unlink()
    with pytest.raises(InputError, match="has no picture"):
        read_pictures(folder)
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"nothing")
    for source in (broken, tmp_path / "absent.zip", tmp_path / "absent"):
        with pytest.raises(InputError, match="missing or damaged"):
            read_pictures(source)


@pytest.mark.parametrize("side", [448, 48])
def test_packed_scenes_are_the_same_but_smaller_and_rounded(tmp_path: Path, side: int) -> None:
    folder = write_scenes(tmp_path / "scenes", 2)
    pack_pictures(data=folder, out=tmp_path / "scenes.zip", side=side)
    scale = min(1.0, side / WIDTH)
    pairs = list(zip(read_pictures(folder), read_pictures(tmp_path / "scenes.zip"), strict=True))
    assert len(pairs) == 2
    for whole, packed in pairs:
        assert (packed.name, packed.nouns, packed.exhaustive) == (whole.name, whole.nouns, True)
        shape = (round(HEIGHT * scale), round(WIDTH * scale))
        assert packed.ids.shape == shape
        np.testing.assert_allclose(packed.camera, CAMERA * scale)
        np.testing.assert_allclose(packed.down, DOWN)
        small = cv2.resize(whole.image, shape[::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(packed.image.astype(int) - small).mean() < 6
        np.testing.assert_array_equal(packed.ids, cv2.resize(whole.ids, shape[::-1], interpolation=cv2.INTER_NEAREST))
        assert packed.log_depth is not None
        assert whole.log_depth is not None
        true = cv2.resize(whole.log_depth, shape[::-1], interpolation=cv2.INTER_NEAREST)
        np.testing.assert_allclose(packed.log_depth, true, rtol=0, atol=1 / 400)


def test_packed_photographs_leave_out_those_to_test_with(tmp_path: Path) -> None:
    folder = write_photographs(tmp_path / "photographs")
    for labelled in (True, False):
        if not labelled:
            (folder / "labels.csv").unlink()
        pack_pictures(data=folder, out=tmp_path / "packed.zip", side=48)
        packed = {picture.name: picture for picture in read_pictures(tmp_path / "packed.zip")}
        assert list(packed) == ["exhaustive", "partial", "salient"]
        assert packed["partial"].nouns == ({2: CUP} if labelled else {})
        assert packed["salient"].log_depth is not None
        assert packed["salient"].log_depth.shape == (36, 48)
        assert packed["partial"].camera is not None
        assert packed["partial"].camera[2] == 24


def test_what_cannot_be_packed_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no picture"):
        pack_pictures(data=tmp_path, out=tmp_path / "packed.zip")
    folder = write_scenes(tmp_path / "scenes", 1)
    (folder / "000" / "image.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a readable picture"):
        pack_pictures(data=folder, out=tmp_path / "packed.zip")
