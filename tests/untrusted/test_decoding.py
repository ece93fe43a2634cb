from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
from PIL import Image

import scenegen
from scenegen.errors import InputError
from scenegen.untrusted import decoding
from scenegen.untrusted.decoding import Decoded, DecodedCamera, Request, decode

ROOT = str(Path(scenegen.__file__).parent.parent)


def request(photo: Path, **options: Any) -> Request:
    """Asks for the outputs beside the photo."""
    values = {
        "name": "x",
        "photo": str(photo),
        "masks": (),
        "mask_names": (),
        "mask_labels": (),
        "depth": None,
        "camera": (),
        "meshes": (),
        "pictures": (),
        "folder": str(photo.parent),
        "max_side": 1280,
        "max_pixels": 10_000_000,
        "max_memory_mb": 1024,
        "timeout_s": 60.0,
        "depth_unit_m": None,
        "depth_kind": "auto",
    }
    return Request(**(values | options))


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def declare(path: Path, width: int, height: int, pixels: bytes = b"") -> Path:
    """A grey PNG whose header says `width` x `height`."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(pixels, 1))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b""))
    return path


def test_everything_is_written_and_reported(tmp_path):
    pixels = np.full((40, 60, 4), 200, np.uint8)
    pixels[:20, :, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    ids = np.repeat(np.arange(4, dtype=np.uint16), 15)[None].repeat(40, axis=0)
    Image.fromarray(ids).save(tmp_path / "ids.png")
    depth = ids.astype(np.float32)
    np.save(tmp_path / "metres.npy", depth)
    decoded = decode(
        request(
            tmp_path / "photo.png",
            masks=(str(tmp_path / "ids.png"),),
            depth=str(tmp_path / "metres.npy"),
            max_side=30,
        )
    )
    warning = "depth: 25% of the map is NaN, infinite or not positive and counts as unknown"
    assert decoded == Decoded(30, 20, 60, 40, None, alpha=True, warnings=(warning,))
    with Image.open(tmp_path / decoding.IMAGE) as written:
        assert (written.mode, written.size) == ("RGB", (30, 20))
    with Image.open(tmp_path / decoding.ALPHA) as written:
        assert (written.mode, written.size) == ("L", (30, 20))
    with Image.open(tmp_path / decoding.MASKS) as written:
        assert written.mode == "I;16"
        np.testing.assert_array_equal(np.asarray(written), ids[1::2, 1::2])
    np.testing.assert_array_equal(np.load(tmp_path / decoding.DEPTH), depth[1::2, 1::2])


def test_a_plain_photo_writes_a_picture_and_nothing_else(photo):
    before = photo.read_bytes()
    assert decode(request(photo)) == Decoded(60, 40, 60, 40, None, alpha=False, warnings=())
    assert {path.name for path in photo.parent.iterdir()} == {photo.name, decoding.IMAGE}
    with Image.open(photo.parent / decoding.IMAGE) as written, Image.open(photo) as given:
        np.testing.assert_array_equal(np.asarray(written), np.asarray(given))
    assert photo.read_bytes() == before


def test_a_camera_comes_back_at_the_size_of_the_photo(photo):
    camera = photo.with_name("camera.json")
    camera.write_text('{"fx": 100, "fy": 100, "cx": 50, "cy": 50, "width": 120, "height": 80}')
    decoded = decode(request(photo, camera=(str(camera),)))
    assert decoded.camera == DecodedCamera(50, 50, 25, 25)
    camera.write_text('{"fx": 100')
    with pytest.raises(InputError, match="`camera` cannot be read"):
        decode(request(photo, camera=(str(camera),)))


def test_the_same_photo_gives_the_same_bytes(photo):
    written = photo.parent / decoding.IMAGE
    decode(request(photo, max_side=64))
    first = written.read_bytes()
    decode(request(photo, max_side=64))
    assert written.read_bytes() == first


@pytest.mark.parametrize(("width", "height"), [(50_000, 50_000), (4000, 3000), (2**31 - 1, 2**31 - 1)])
def test_a_header_bomb_is_refused_before_it_is_decoded(tmp_path, width, height):
    path = declare(tmp_path / "bomb.png", width, height)
    with pytest.raises(
        InputError, match=r"'x' is too large: .* pixels\); at most 10000000 pixels are allowed.*read\.max_pixels"
    ):
        decode(request(path, max_memory_mb=256))


def test_pixels_that_need_too_much_memory_are_refused(tmp_path):
    path = declare(tmp_path / "large.png", 5000, 5000, bytes(5001 * 5000))
    with pytest.raises(InputError, match=r"needs more than 64 MB.*read.max_memory_mb"):
        decode(request(path, max_pixels=10**8, max_memory_mb=64))


def test_a_decoder_that_takes_too_long_is_stopped(photo):
    with pytest.raises(InputError, match=r"not be decoded within 0\.01 s.*read.timeout_s"):
        decode(request(photo, timeout_s=0.01))


def test_a_decoder_that_crashes_ends_alone(photo, monkeypatch):
    monkeypatch.setattr(decoding, "CHILD", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(InputError, match=r"'x': the decoder was killed \(SIGSEGV\)"):
        decode(request(photo))


def test_a_decoder_that_fails_says_why(photo, monkeypatch):
    monkeypatch.setattr(decoding, "CHILD", "raise LookupError('no such luck')")
    with pytest.raises(InputError, match=r"'x': the decoder failed \(LookupError: no such luck\)"):
        decode(request(photo))


def test_refusals_cross_the_process_boundary_word_for_word(tmp_path):
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(
        InputError, match=r"^photo 'x' is not a picture in a format that scenegen reads; allowed: JPEG, "
    ):
        decode(request(tmp_path / "text.png"))


def test_what_a_decoder_prints_does_not_mix_with_the_answer(photo):
    path = photo.parent / "d.exr"
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {"Z": np.random.default_rng(0).random((40, 60), np.float32)}).write(str(path))
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(InputError, match="`depth` cannot be read"):
        decode(request(photo, depth=str(path)))


def test_names_of_any_script(tmp_path):
    (tmp_path / "фото 🪑.png").touch()
    with pytest.raises(InputError, match="photo 'кухня' is an empty file"):
        decode(request(tmp_path / "фото 🪑.png", name="кухня"))


def test_what_the_system_refuses_is_no_fault_of_the_photo(photo):
    with pytest.raises(FileNotFoundError, match=r"absent/image\.png"):
        decode(request(photo, folder=str(photo.parent / "absent")))


def test_modules_in_the_working_directory_are_not_run(photo, monkeypatch):
    for name in ("json", "numpy", "PIL", "scenegen"):
        (photo.parent / f"{name}.py").write_text("raise SystemExit('a stranger ran')")
    monkeypatch.chdir(photo.parent)
    assert decode(request(photo)).width == 60


def test_the_child_limits_itself():
    resource = pytest.importorskip("resource")
    code = (
        "import json, resource, sys; sys.path.append(sys.argv[1]);"
        "from scenegen.system.limits import limit_process; assert limit_process(8, 300 * 2**20) == ();"
        "print(json.dumps([resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_CPU)]))"
    )
    child = subprocess.run([sys.executable, "-P", "-c", code, ROOT], capture_output=True, check=True)
    assert json.loads(child.stdout) == [300 * 2**20, 8]
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != 300 * 2**20


def test_a_photo_alone_needs_no_numpy():
    code = (
        "import sys; sys.path.append(sys.argv[1]); import scenegen.untrusted.child;"
        "sys.exit(any(name in sys.modules for name in ('numpy', 'pydantic', 'cv2')))"
    )
    subprocess.run([sys.executable, "-P", "-c", code, ROOT], check=True)
