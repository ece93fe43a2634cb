from __future__ import annotations

from pathlib import Path

import numpy as np
import OpenEXR
import pytest
from PIL import Image

from scenegen.errors import InputError
from scenegen.untrusted.depth import read_depth
from scenegen.untrusted.photo import UprightPhoto

DEPTH = np.linspace(0.5, 9.5, 20 * 30, dtype=np.float32).reshape(20, 30)


def photo_of(width: int, height: int, scale: float = 1.0) -> UprightPhoto:
    rgb = Image.new("RGB", (round(width * scale), round(height * scale)))
    return UprightPhoto(rgb, None, (width, height), None, (width, height), None, ())


def read(path: Path, photo: UprightPhoto | None = None, **options: object) -> tuple[np.ndarray, list[str]]:
    values = {"max_pixels": 10_000, "png_unit_m": 0.001} | options
    return read_depth(path, photo or photo_of(30, 20), **values)


def save_npy(path: Path, values: np.ndarray) -> Path:
    np.save(path, values)
    return path


def save_exr(path: Path, channels: dict[str, np.ndarray]) -> Path:
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, channels).write(str(path))
    return path


def save_ones(path: Path, shape: tuple[int, int]) -> Path:
    if path.suffix == ".npy":
        return save_npy(path, np.ones(shape, np.float32))
    if path.suffix == ".exr":
        return save_exr(path, {"Z": np.ones(shape, np.float32)})
    Image.fromarray(np.ones(shape, np.uint16)).save(path)
    return path


@pytest.mark.parametrize("dtype", ["float16", "float32", ">f4", "float64", "uint8", "int32"])
def test_npy_is_in_metres(tmp_path, dtype):
    values = (DEPTH + 1).astype(dtype)
    depth, warnings = read(save_npy(tmp_path / "d.npy", values))
    assert depth.dtype == np.float32
    np.testing.assert_array_equal(depth, values.astype(np.float32))
    assert warnings == []


def test_16_bit_png_is_in_units(tmp_path):
    values = np.arange(1, 601, dtype=np.uint16).reshape(20, 30) * 100
    Image.fromarray(values).save(tmp_path / "d.png")
    depth, _ = read(tmp_path / "d.png", png_unit_m=0.0002)
    np.testing.assert_allclose(depth, values * 0.0002, rtol=1e-6)


@pytest.mark.parametrize("channels", [("Z",), ("Y",), ("depth",), ("R", "G", "B"), ("Z", "R", "A")])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_exr_is_in_metres(tmp_path, channels, dtype):
    values = DEPTH.astype(dtype)
    others = dict.fromkeys(channels[1:], np.zeros_like(values))
    depth, warnings = read(save_exr(tmp_path / "d.exr", {channels[0]: values, **others}))
    np.testing.assert_array_equal(depth, values.astype(np.float32))
    assert warnings == []


def test_exr_without_a_depth_channel_is_refused(tmp_path):
    with pytest.raises(InputError, match="has the channels A; allowed: one of Z, "):
        read(save_exr(tmp_path / "d.exr", {"A": DEPTH}))


def test_what_is_no_depth_becomes_unknown(tmp_path):
    values = DEPTH.astype(np.float64)
    values[0, :6] = [np.nan, np.inf, -np.inf, 0, -1, 1e300]
    depth, warnings = read(save_npy(tmp_path / "d.npy", values))
    np.testing.assert_array_equal(depth[0, :6], 0)
    np.testing.assert_array_equal(depth[1:], DEPTH[1:])
    assert warnings == ["depth: 1% of the map is NaN, infinite or not positive and counts as unknown"]


def test_almost_nothing_known_is_refused(tmp_path):
    values = np.full_like(DEPTH, np.nan)
    values[0, :5] = 1
    with pytest.raises(InputError, match=r"positive at 0\.83% .* at least 1% are needed"):
        read(save_npy(tmp_path / "d.npy", values))


def test_downsampling_never_mixes_depths(tmp_path):
    values = np.where(np.arange(300) < 151, 1.0, 9.0)[None].repeat(200, axis=0)
    depth, warnings = read(save_npy(tmp_path / "d.npy", values), photo_of(300, 200, scale=0.1), max_pixels=60_000)
    assert depth.shape == (20, 30)
    assert set(np.unique(depth)) == {1.0, 9.0}
    assert warnings == []


@pytest.mark.parametrize("size", [(15, 10), (60, 40), (151, 100)])
def test_another_size_of_the_same_aspect_is_resampled_with_a_warning(tmp_path, size):
    values = np.full(size[::-1], 2.0)
    depth, warnings = read(save_npy(tmp_path / "d.npy", values), max_pixels=20_000)
    np.testing.assert_array_equal(depth, np.full((20, 30), 2.0))
    assert warnings == [f"depth: the map is {size[0]}x{size[1]} and the photo 30x20; resampled"]


@pytest.mark.parametrize("shape", [(30, 20), (20, 31)])
@pytest.mark.parametrize("suffix", ["npy", "exr", "png"])
def test_another_aspect_is_refused_with_both_sizes(tmp_path, shape, suffix):
    with pytest.raises(InputError, match=f"is {shape[1]}x{shape[0]} and the photo 30x20"):
        read(save_ones(tmp_path / f"d.{suffix}", shape))


@pytest.mark.parametrize("shape", [(0, 30), (20, 0), (0, 0)])
def test_an_array_without_values_is_refused(tmp_path, shape):
    with pytest.raises(InputError, match="`depth`"):
        read(save_npy(tmp_path / "d.npy", np.ones(shape)))


@pytest.mark.parametrize("suffix", ["npy", "exr", "png"])
def test_too_many_pixels_are_refused(tmp_path, suffix):
    with pytest.raises(InputError, match="is 30x20, more than 599 pixels"):
        read(save_ones(tmp_path / f"d.{suffix}", (20, 30)), max_pixels=599)


@pytest.mark.parametrize("values", [DEPTH[0], DEPTH[..., None], DEPTH > 1, DEPTH.astype(complex)])
def test_other_arrays_are_refused(tmp_path, values):
    with pytest.raises(InputError, match="allowed: floats or integers, two-dimensional"):
        read(save_npy(tmp_path / "d.npy", values))


def test_nothing_is_unpickled(tmp_path):
    np.save(tmp_path / "d.npy", np.array([[print]], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "d.npy")


def test_a_header_that_promises_more_than_the_file_holds_is_refused(tmp_path):
    path = save_npy(tmp_path / "d.npy", DEPTH)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="cannot be read"):
        read(path)
    path.write_bytes(data.replace(b"(20, 30), }  ", b"(2000, 3000)}"))
    with pytest.raises(InputError, match="cannot be read"):
        read(path, max_pixels=10**8)


def test_damaged_files_are_refused(tmp_path):
    path = save_exr(tmp_path / "d.exr", {"Z": np.random.default_rng(0).random((20, 30), np.float32)})
    data = path.read_bytes()
    for damaged in (b"text", data[: len(data) // 3], data[:-500]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="`depth` cannot be read"):
            read(path)
    (tmp_path / "d.npy").write_bytes(b"text")
    with pytest.raises(InputError, match="`depth` cannot be read"):
        read(tmp_path / "d.npy")
    (tmp_path / "d.png").write_bytes(b"text")
    with pytest.raises(InputError, match="allowed: PNG"):
        read(tmp_path / "d.png")


def test_8_bit_png_is_refused(tmp_path):
    Image.new("L", (30, 20), 9).save(tmp_path / "d.png")
    with pytest.raises(InputError, match="PNG of mode L; allowed: 16-bit grey"):
        read(tmp_path / "d.png")


def test_another_suffix_is_refused(tmp_path):
    (tmp_path / "d.tiff").write_bytes(b"II*")
    with pytest.raises(InputError, match=r"is a \.tiff; allowed: \.npy, \.exr"):
        read(tmp_path / "d.tiff")


@pytest.mark.parametrize("suffix", ["npy", "exr", "png"])
def test_an_empty_file_is_refused(tmp_path, suffix):
    (tmp_path / f"d.{suffix}").touch()
    with pytest.raises(InputError, match="`depth` is an empty file"):
        read(tmp_path / f"d.{suffix}")


def test_a_large_header_is_refused_in_one_line_without_advice(tmp_path: Path) -> None:
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }".ljust(60_000) + "\n"
    content = b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header.encode() + bytes(16)
    (tmp_path / "d.npy").write_bytes(content)
    with pytest.raises(InputError, match="Header info length") as refused:
        read(tmp_path / "d.npy")
    assert "pickle" not in str(refused.value)
    assert str(refused.value).isprintable()
