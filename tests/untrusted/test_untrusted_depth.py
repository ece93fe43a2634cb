from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import OpenEXR
import pytest
from PIL import Image

from scenegen.errors import InputError
from scenegen.untrusted.depth import GivenDepth, read_depth
from scenegen.untrusted.photo import UprightPhoto

DEPTH = np.linspace(0.5, 9.5, 20 * 30, dtype=np.float32).reshape(20, 30)


def photo_of(width: int, height: int, scale: float = 1.0) -> UprightPhoto:
    rgb = Image.new("RGB", (round(width * scale), round(height * scale)))
    return UprightPhoto(rgb, None, (width, height), None, (width, height), None, ())


def given(path: Path, photo: UprightPhoto | None = None, **options: object) -> GivenDepth:
    return read_depth(path, photo or photo_of(30, 20), **{"max_pixels": 10_000, **options})


def read(path: Path, photo: UprightPhoto | None = None, **options: object) -> tuple[np.ndarray, list[str]]:
    depth = given(path, photo, **options)
    return depth.values, [*depth.notes]


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
    depth, _ = read(tmp_path / "d.png", unit_m=0.0002)
    np.testing.assert_allclose(depth, values * 0.0002, rtol=1e-6)


@pytest.mark.parametrize(
    "channels",
    [
        ("Z",),
        ("Y",),
        ("depth",),
        ("Depth.V",),
        ("V",),
        ("ViewLayer.Depth.Z", "ViewLayer.Combined.R", "ViewLayer.Normal.X", "ViewLayer.Normal.Y", "ViewLayer.Normal.Z"),
        ("Z", "R", "A"),
    ],
)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_exr_is_in_metres(tmp_path, channels, dtype):
    values = DEPTH.astype(dtype)
    others = dict.fromkeys(channels[1:], np.zeros_like(values))
    depth, warnings = read(save_exr(tmp_path / "d.exr", {channels[0]: values, **others}))
    np.testing.assert_array_equal(depth, values.astype(np.float32))
    assert warnings == []


def test_exr_without_a_depth_channel_is_refused(tmp_path):
    with pytest.raises(InputError, match="has the channels A, B; looked for one whose name ends in z, "):
        read(save_exr(tmp_path / "d.exr", {"A": DEPTH, "B": DEPTH}))


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
    values[: size[1] // 2] = 3.0
    depth, warnings = read(save_npy(tmp_path / "d.npy", values), max_pixels=20_000)
    np.testing.assert_array_equal(depth, np.repeat([[3.0], [2.0]], 10, axis=0) * np.ones(30))
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


@pytest.mark.parametrize("values", [DEPTH[0], DEPTH[None].repeat(4, axis=0), DEPTH > 1, DEPTH.astype(complex)])
def test_other_arrays_are_refused(tmp_path, values):
    with pytest.raises(InputError, match=r"allowed: floats or integers, one \(height, width\)"):
        read(save_npy(tmp_path / "d.npy", values))


def test_nothing_is_unpickled(tmp_path):
    np.save(tmp_path / "d.npy", np.array([[print]], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "d.npz", depth=np.array([[print]], dtype=object), allow_pickle=True)
    for name in ("d.npy", "d.npz"):
        with pytest.raises(InputError, match="holds Python objects, which are not read"):
            read(tmp_path / name)
    np.savez(tmp_path / "e.npz", depth=DEPTH, meta=np.array({}, dtype=object))
    np.testing.assert_array_equal(read(tmp_path / "e.npz")[0], DEPTH)


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


def test_8_bit_pictures_are_asked_back_unless_the_user_says_what_they_are(tmp_path):
    values = np.linspace(9, 250, 600).astype(np.uint8).reshape(20, 30)
    values[0, 0] = 255
    Image.fromarray(values).save(tmp_path / "d.png")
    with pytest.raises(InputError, match=r"8-bit picture, which has no unit.*--depth-kind disparity"):
        read(tmp_path / "d.png")
    depth = given(tmp_path / "d.png", kind="disparity")
    assert (depth.kind, depth.values[0, 0]) == ("disparity", 255)
    np.testing.assert_array_equal(depth.values, values)
    depth, warnings = read(tmp_path / "d.png", unit_m=0.01)
    assert depth[0, 0] == 0
    assert "is 255, its largest value, and counts as unknown" in warnings[0]
    np.testing.assert_allclose(depth[1], values[1] * 0.01, rtol=1e-6)


def test_another_suffix_is_refused(tmp_path):
    (tmp_path / "d.hdr").write_bytes(b"#?RADIANCE")
    with pytest.raises(InputError, match=r"is a \.hdr; allowed: \.exr, \.npy"):
        read(tmp_path / "d.hdr")


def test_16_bits_that_are_full_are_unknown(tmp_path):
    values = (1000 * DEPTH).astype(np.uint16)
    values[:2] = 65535
    Image.fromarray(values).save(tmp_path / "d.png")
    depth, warnings = read(tmp_path / "d.png")
    assert (depth[:2] == 0).all()
    np.testing.assert_allclose(depth[2:], DEPTH[2:], atol=1e-3)
    assert warnings == ["depth: 10% of the map is 65535, its largest value, and counts as unknown"]


def test_what_a_renderer_writes_where_it_hits_nothing_is_unknown(tmp_path):
    values = DEPTH.copy()
    values[:5] = 1e10
    depth, warnings = read(save_exr(tmp_path / "d.exr", {"Z": values}))
    assert (depth[:5] == 0).all()
    np.testing.assert_array_equal(depth[5:], DEPTH[5:])
    assert warnings == ["depth: 25% of the map is beyond 1000 m and counts as unknown"]


@pytest.mark.parametrize("factor", [1000, 1e-4])
def test_metres_that_no_photo_has_are_asked_back(tmp_path, factor):
    path = save_npy(tmp_path / "d.npy", DEPTH * np.float32(factor))
    with pytest.raises(
        InputError, match=r"no photo's: the values look like.*--set read.depth_unit_m=0.001.*--depth-kind"
    ):
        read(path)
    depth, _ = read(path, unit_m=1 / factor)
    np.testing.assert_allclose(depth, DEPTH, rtol=1e-6)


@pytest.mark.parametrize("top", [1.0, 255.0, 65535])
def test_values_stretched_to_a_range_are_asked_back(tmp_path, top):
    values = np.linspace(0, top, 600).reshape(20, 30).astype(np.float32 if isinstance(top, float) else np.uint16)
    values[values > 0.93 * top] = 0.99999 * top  # the sky, rounded down
    path = save_npy(tmp_path / "d.npy", values)
    with pytest.raises(InputError, match=r"fills the range from 0 to .*near is small, relative"):
        read(path)
    assert given(path, kind="relative").kind == "relative"
    assert (read(path, unit_m=10 / top)[0] > 0).mean() > 0.99


CAMERA = (25.0, 26.0, 14.0, 11.0)


def points_of(depth: np.ndarray) -> np.ndarray:
    """What a camera with `CAMERA` sees at each pixel."""
    fx, fy, cx, cy = CAMERA
    v, u = np.mgrid[:20, :30] + 0.5
    return np.stack([(u - cx) / fx * depth, (v - cy) / fy * depth, depth], axis=-1).astype(np.float32)


@pytest.mark.parametrize("axes", [(1, 1, 1), (1, -1, -1), (-1, -1, 1)])
@pytest.mark.parametrize("kind", ["npy", "chw.npy", "npz", "exr", "xyz.exr", "pfm"])
def test_maps_of_points_give_depth_and_camera(tmp_path, axes, kind):
    points = points_of(DEPTH) * np.float32(axes)
    path = tmp_path / f"d.{kind}"
    match kind:
        case "npy":
            save_npy(path, points)
        case "chw.npy":
            save_npy(path, np.moveaxis(points, 2, 0))
        case "npz":
            np.savez(path, points=points[None])
        case "exr":
            save_exr(path, dict(zip("RGB", np.moveaxis(points, 2, 0).copy(), strict=True)))
        case "xyz.exr":
            names = ("ViewLayer.Position.X", "ViewLayer.Position.Y", "ViewLayer.Position.Z")
            save_exr(path, dict(zip(names, np.moveaxis(points, 2, 0).copy(), strict=True)))
        case "pfm":
            path.write_bytes(b"PF\n30 20\n1.0\n" + points[::-1].astype(">f4").tobytes())
    depth = given(path, photo_of(60, 40, scale=0.5))
    np.testing.assert_allclose(depth.values, DEPTH, rtol=1e-6)
    assert depth.kind == "z"
    camera = depth.camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == pytest.approx([2 * value for value in CAMERA], rel=1e-4)


@pytest.mark.parametrize("suffix", ["npy", "pfm", "exr"])
def test_one_value_written_three_times_is_one(tmp_path, suffix):
    path = tmp_path / f"d.{suffix}"
    if suffix == "npy":
        save_npy(path, np.dstack([DEPTH] * 3))
    elif suffix == "pfm":
        path.write_bytes(b"PF\n30 20\n-1\n" + np.dstack([DEPTH] * 3)[::-1].tobytes())
    else:
        colours = dict(zip("RGB", (DEPTH, DEPTH * 2, DEPTH * 3), strict=True))
        save_exr(path, {**colours, **{f"VRayZDepth.{name}": DEPTH for name in "RGB"}})
    np.testing.assert_array_equal(read(path)[0], DEPTH)


def test_three_values_that_are_no_points_are_refused(tmp_path):
    picture = np.random.default_rng(0).random((20, 30, 3)).astype(np.float32)
    for values in (picture, DEPTH[..., None] * np.float32([0.1, 0.2, 1])):
        channels = dict(zip("RGB", np.moveaxis(values, 2, 0).copy(), strict=True))
        with pytest.raises(InputError, match="looks like a picture"):
            read(save_exr(tmp_path / "d.exr", channels))
    grey, _ = read(save_exr(tmp_path / "grey.exr", dict.fromkeys("RGB", DEPTH)))
    np.testing.assert_array_equal(grey, DEPTH)
    with pytest.raises(InputError, match="three values for each pixel, and --depth-kind z is one"):
        read(save_npy(tmp_path / "d.npy", points_of(DEPTH)), kind="z")
    with pytest.raises(InputError, match="one value for each pixel; --depth-kind points needs three"):
        read(save_npy(tmp_path / "e.npy", DEPTH), kind="points")


@pytest.mark.parametrize("values", [DEPTH[None], DEPTH[..., None], DEPTH[None, None], DEPTH[None, ..., None]])
def test_axes_of_length_one_do_not_matter(tmp_path, values):
    np.testing.assert_array_equal(read(save_npy(tmp_path / "d.npy", values))[0], DEPTH)


def test_archives(tmp_path):
    matrix = np.array([[[25.0, 0, 14], [0, 26, 11], [0, 0, 1]]])
    np.savez(tmp_path / "da3.npz", depth=DEPTH[None], conf=np.ones((1, 20, 30)), intrinsics=matrix)
    depth = given(tmp_path / "da3.npz")
    np.testing.assert_array_equal(depth.values, DEPTH)
    assert (depth.camera.fx, depth.camera.fy, depth.camera.cx, depth.camera.cy) == CAMERA
    np.savez(tmp_path / "moge.npz", depth=DEPTH, mask=DEPTH > 5, points=points_of(DEPTH))
    np.testing.assert_array_equal(read(tmp_path / "moge.npz")[0], np.where(DEPTH > 5, DEPTH, 0))
    np.savez(tmp_path / "disp.npz", disparity=DEPTH, conf=DEPTH)
    assert given(tmp_path / "disp.npz").kind == "disparity"
    np.savez(tmp_path / "other.npz", colour=DEPTH, conf=DEPTH)
    with pytest.raises(InputError, match=r"holds colour \(20, 30\), conf \(20, 30\); looked for one of depth"):
        read(tmp_path / "other.npz")


@pytest.mark.parametrize("order", ["<", ">"])
def test_portable_float_maps_go_from_the_bottom_up(tmp_path, order):
    scale = b"-1.0" if order == "<" else b"1.0"
    (tmp_path / "d.pfm").write_bytes(b"Pf\n30 20\n" + scale + b"\n" + DEPTH[::-1].astype(f"{order}f4").tobytes())
    np.testing.assert_array_equal(read(tmp_path / "d.pfm")[0], DEPTH)
    (tmp_path / "line.pfm").write_bytes(b"Pf 30 20 " + scale + b"\n" + DEPTH[::-1].astype(f"{order}f4").tobytes())
    np.testing.assert_array_equal(read(tmp_path / "line.pfm")[0], DEPTH)
    (tmp_path / "e.pfm").write_bytes(b"Pf\n30 20\n-1.0\n" + bytes(99))
    with pytest.raises(InputError, match="cut off"):
        read(tmp_path / "e.pfm")
    (tmp_path / "f.pfm").write_bytes(b"Pf\n90000 60000\n-1.0\n" + bytes(99))
    with pytest.raises(InputError, match="more than 10000 pixels"):
        read(tmp_path / "f.pfm")


def test_tiffs(tmp_path):
    Image.fromarray(DEPTH).save(tmp_path / "d.tiff")
    np.testing.assert_array_equal(read(tmp_path / "d.tiff")[0], DEPTH)
    Image.fromarray((DEPTH * 1000).astype(np.uint16)).save(tmp_path / "d.TIF", "TIFF")
    np.testing.assert_allclose(read(tmp_path / "d.TIF")[0], DEPTH, atol=1e-3)


def test_16_bits_in_three_channels_are_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "d.png"), np.repeat((1000 * DEPTH).astype(np.uint16)[..., None], 3, axis=2))
    with pytest.raises(InputError, match="a 16-bit PNG of colours, of which 8 bits could be read"):
        read(tmp_path / "d.png")


def test_a_renderers_z_buffer_is_said(tmp_path):
    depth, warnings = read(save_npy(tmp_path / "d.npy", 1 - 0.01 / DEPTH))
    assert (depth > 0).all()
    assert "between 0.98" in warnings[0]
    assert "z-buffer" in warnings[0]


def test_an_axis_that_points_backwards(tmp_path):
    depth, warnings = read(save_npy(tmp_path / "d.npy", np.where(DEPTH > 9, 0, -DEPTH)))
    np.testing.assert_array_equal(depth, np.where(DEPTH > 9, 0, DEPTH))
    assert "without their sign" in warnings[0]


def test_a_mist_pass_is_no_depth_and_one_of_two_view_layers_is_said(tmp_path):
    mist = {"ViewLayer.Mist.Z": DEPTH / 10, "ViewLayer.Combined.R": DEPTH}
    with pytest.raises(InputError, match="A mist pass has no unit: render the depth pass"):
        read(save_exr(tmp_path / "m.exr", mist))
    np.testing.assert_array_equal(read(save_exr(tmp_path / "d.exr", {**mist, "ViewLayer.Depth.Z": DEPTH}))[0], DEPTH)
    depth, warnings = read(save_exr(tmp_path / "two.exr", {"A.Depth.Z": DEPTH, "B.Depth.Z": 2 * DEPTH}))
    np.testing.assert_array_equal(depth, DEPTH)
    assert "A.Depth.Z is used, and B.Depth.Z are not" in warnings[0]


def test_intrinsics_that_are_none_are_left_out_and_said(tmp_path):
    np.savez(tmp_path / "d.npz", depth=DEPTH[None], intrinsics=np.eye(3)[None])
    depth = given(tmp_path / "d.npz")
    assert depth.camera is None
    assert "the camera beside it is not used" in depth.notes[0]


def test_colours_are_no_depth(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)).save(tmp_path / "d.png")
    with pytest.raises(InputError, match="a picture of colours"):
        read(tmp_path / "d.png")


def test_a_map_of_the_photo_as_stored_is_turned_with_it(tmp_path):
    photo = UprightPhoto(Image.new("RGB", (20, 30)), None, (30, 20), Image.Transpose.ROTATE_270, (20, 30), None, ())
    depth, warnings = read(save_npy(tmp_path / "d.npy", DEPTH), photo)
    np.testing.assert_array_equal(depth, np.rot90(DEPTH, -1))
    assert "EXIF rotation" in warnings[0]


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
