"""Bad files on the real command line: a clear message, the right exit code, and the good photo beside them unharmed."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scenegen.cli.commands import main

SMALL = ["--set", "texture.size=64", "--set", "generate.resolution=32", "--set", "export.usdz=false"]


def picture() -> Image.Image:
    """Two discs on a plain ground."""
    y, x = np.mgrid[0:120, 0:160]
    colours = np.full((120, 160, 3), (190, 185, 175), np.uint8)
    colours[(x - 50) ** 2 + (y - 70) ** 2 < 20**2] = (180, 40, 40)
    colours[(x - 110) ** 2 + (y - 80) ** 2 < 18**2] = (40, 70, 170)
    return Image.fromarray(colours)


def header_bomb() -> bytes:
    """A PNG that claims 50,000 x 50,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.fixture
def bad(tmp_path: Path) -> dict[str, Path]:
    """Files that are no photos, each in its own way."""
    folder = tmp_path / "photos"
    folder.mkdir()
    picture().save(folder / "whole.jpg", quality=95)
    files = {
        "text.png": b"not a picture",
        "empty.jpg": b"",
        "truncated.jpg": (folder / "whole.jpg").read_bytes()[:400],
        "bomb.png": header_bomb(),
    }
    (folder / "whole.jpg").unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["text.png", "empty.jpg", "truncated.jpg", "bomb.png", "dot.png"])
def test_each_alone_is_exit_3_with_its_name_and_nothing_written(
    bad: dict[str, Path], name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main([str(bad[name]), "-o", str(tmp_path / "out")]) == 3
    assert Path(name).stem in caplog.text
    assert not [path for path in (tmp_path / "out").iterdir() if path.name != ".scenegen"]


def test_the_good_photo_beside_them_is_made(
    bad: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = bad["text.png"].parent
    picture().save(folder / "good.png")
    assert main([str(folder), "-o", str(tmp_path / "out"), *SMALL]) == 6
    assert (tmp_path / "out" / "good" / "scene.glb").is_file()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {".scenegen", "good"}
    assert "good/report.html: 2 objects" in capsys.readouterr().out


@pytest.mark.parametrize("mode", ["CMYK", "P", "L", "I;16"])
def test_unusual_pictures_are_made_all_the_same(mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("photo.jpg" if mode == "CMYK" else "photo.png")
    if mode == "I;16":
        grey = np.asarray(picture().convert("L")).astype(np.uint16) * 257
        Image.fromarray(grey).save(path)
    else:
        picture().convert(mode).save(path)
    assert main([str(path), "-o", str(tmp_path / "out"), *SMALL]) in (0, 6)
    assert (tmp_path / "out" / "photo" / "report.html").is_file()


def test_masks_of_another_size_and_empty_depth_are_refused_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photo = tmp_path / "photo.png"
    picture().save(photo)
    Image.new("L", (70, 50), 1).save(tmp_path / "masks.png")
    assert main([str(photo), "--masks", str(tmp_path / "masks.png"), "-o", str(tmp_path / "out")]) == 3
    assert "70x50" in caplog.text
    assert "160x120" in caplog.text
    np.save(tmp_path / "depth.npy", np.full((120, 160), np.nan, np.float32))
    assert main([str(photo), "--depth", str(tmp_path / "depth.npy"), "-o", str(tmp_path / "out")]) == 3
    assert "depth" in caplog.text


def test_a_picture_of_nothing_is_a_partial_scene(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.new("RGB", (160, 120), (128, 128, 128)).save(tmp_path / "grey.png")
    assert main([str(tmp_path / "grey.png"), "-o", str(tmp_path / "out"), *SMALL]) == 6
    assert "no object was found" in caplog.text
    assert (tmp_path / "out" / "grey" / "scene.usd").is_file()
