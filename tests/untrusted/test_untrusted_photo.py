from __future__ import annotations

import contextlib
import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms
from pillow_heif import register_heif_opener

from scenegen.errors import InputError
from scenegen.untrusted.formats import PICTURE_SUFFIXES
from scenegen.untrusted.photo import UprightPhoto, read_photo, working_size

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

# What a camera stores for an upright picture, by EXIF orientation; written without Pillow's transpositions.
STORED = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright, 2).swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


def read(path: Path, max_side: int = 1280) -> UprightPhoto:
    return read_photo(path, "photo 'x'", max_side=max_side)


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def smooth(height: int, width: int) -> Image.Image:
    return Image.fromarray(noise(9, 12)).resize((width, height), Image.Resampling.BICUBIC)


def exif(orientation: int = 1, focal: int | None = None) -> Image.Exif:
    values = Image.Exif()
    values[ExifTags.Base.Orientation] = orientation
    if focal is not None:
        values.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = focal
    return values


def write_png(path: Path, size: tuple[int, int], depth: int, colour: int, rows: bytes, *chunks: tuple[bytes, bytes]):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))


def assert_solid(picture: Image.Image, colour: tuple[int, int, int], tolerance: int = 0) -> None:
    assert picture.mode == "RGB"
    assert np.abs(np.asarray(picture).astype(int) - colour).max() <= tolerance


def test_an_rgb_picture_is_kept_as_it_is(tmp_path):
    pixels = noise(40, 50)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    photo = read(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(photo.rgb), pixels)
    assert (photo.alpha, photo.transpose, photo.focal_35mm, photo.warnings) == (None, None, None, ())
    assert photo.size == photo.stored_size == (50, 40)


@pytest.mark.parametrize("suffix", sorted(PICTURE_SUFFIXES - {".pgm"}))
def test_every_format(tmp_path, suffix):
    register_heif_opener()
    Image.new("RGB", (32, 24), RED).save(tmp_path / f"a{suffix}")
    assert_solid(read(tmp_path / f"a{suffix}").rgb, RED, tolerance=3)


def test_heic_without_its_package_says_how(tmp_path, monkeypatch):
    register_heif_opener()
    Image.new("RGB", (32, 24), RED).save(tmp_path / "a.heic")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(InputError, match=r"HEIC picture.*pip install 'scenegen-3d\[heif\]'"):
        read(tmp_path / "a.heic")


def test_the_first_page_of_a_scan(tmp_path):
    pages = [Image.new("RGB", (32, 24), colour) for colour in (RED, BLUE)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    photo = read(tmp_path / "a.tif")
    assert_solid(photo.rgb, RED)
    assert photo.warnings == ("the photo's file has 2 pages; the first one is used",)


@pytest.mark.parametrize("tag", [50706, 254])
def test_the_preview_of_a_raw_file_is_no_photo(tmp_path, tag):
    """Raw files of cameras are TIFFs whose first page is small. The tags are DNGVersion and NewSubfileType."""
    Image.new("RGB", (32, 24)).save(tmp_path / "a.dng", "TIFF", tiffinfo={tag: (1, 4, 0, 0) if tag == 50706 else 1})
    with pytest.raises(InputError, match=r"a camera's raw file.* Develop it to JPEG or TIFF"):
        read(tmp_path / "a.dng")


@pytest.mark.parametrize("mode", ["F", "I", "LAB"])
def test_measurements_are_no_photo(tmp_path, mode):
    Image.new(mode, (32, 24)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=f"mode {mode}.*give a depth map with --depth"):
        read(tmp_path / "a.tif")


def test_the_content_decides_not_the_suffix(tmp_path):
    Image.new("RGB", (32, 24), RED).save(tmp_path / "a.webp", "JPEG")
    assert_solid(read(tmp_path / "a.webp").rgb, RED, tolerance=2)


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation(tmp_path, orientation):
    upright = noise(20, 30)
    stored = np.ascontiguousarray(STORED[orientation](upright))
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif(orientation))
    photo = read(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(photo.rgb), upright)
    assert photo.size == (30, 20)
    assert photo.stored_size == stored.shape[1::-1]
    Image.fromarray(stored).save(tmp_path / "a.tif", tiffinfo={ExifTags.Base.Orientation: orientation})
    np.testing.assert_array_equal(np.asarray(read(tmp_path / "a.tif").rgb), upright)


def test_a_sideways_photo_is_square_only_at_working_size(tmp_path):
    Image.new("RGB", (1000, 999)).save(tmp_path / "a.png", exif=exif(6))
    photo = read(tmp_path / "a.png", max_side=100)
    assert (photo.rgb.size, photo.size) == ((100, 100), (999, 1000))


def test_a_rotated_jpeg_is_upright_and_keeps_its_focal_length(tmp_path):
    upright = np.zeros((400, 600, 3), np.uint8)
    upright[:200] = RED
    Image.fromarray(np.rot90(upright)).save(tmp_path / "a.jpg", quality=95, exif=exif(6, focal=28))
    photo = read(tmp_path / "a.jpg", max_side=60)
    assert photo.rgb.size == (60, 40)
    assert_solid(photo.rgb.crop((0, 0, 60, 18)), RED, tolerance=6)
    assert_solid(photo.rgb.crop((0, 22, 60, 40)), (0, 0, 0), tolerance=6)
    assert photo.focal_35mm == 28.0


@pytest.mark.parametrize("focal", [0, 1, 65535])
def test_a_nonsense_focal_length_is_ignored(tmp_path, focal):
    Image.new("RGB", (32, 24)).save(tmp_path / "a.jpg", exif=exif(focal=focal))
    assert read(tmp_path / "a.jpg").focal_35mm is None


def described(size: tuple[int, int], camera: str = "", **tags: float) -> Image.Exif:
    """EXIF data of a picture of `size`, with tags by their names."""
    values = Image.Exif()
    values[ExifTags.Base.Make], _, values[ExifTags.Base.Model] = camera.partition(" ")
    known = {"ExifImageWidth": size[0], "ExifImageHeight": size[1], **tags}
    values.get_ifd(ExifTags.IFD.Exif).update({ExifTags.Base[name]: value for name, value in known.items()})
    return values


@pytest.mark.parametrize(
    ("camera", "tags", "focal", "source"),
    [
        ("", {"FocalLengthIn35mmFilm": 26, "FocalLength": 5.1}, 26, "35 mm equivalent"),
        # 6000 pixels at 6000 / 22.3 per mm, as Canon writes them per inch, and others per cm.
        (
            "",
            {"FocalLength": 50, "FocalPlaneXResolution": 6000 / 22.3 * 25.4, "FocalPlaneResolutionUnit": 2},
            80.7,
            "resolution",
        ),
        (
            "",
            {"FocalLength": 50, "FocalPlaneXResolution": 6000 / 22.3 * 10, "FocalPlaneResolutionUnit": 3},
            80.7,
            "resolution",
        ),
        ("NIKON NIKON D5300", {"FocalLength": 35}, 53.6, "sensor"),
        ("NIKON NIKON D850", {"FocalLength": 35}, 35.1, "sensor"),
        ("Canon Canon EOS 5D Mark III", {"FocalLength": 50}, 50, "sensor"),
        ("Canon Canon EOS R6", {"FocalLength": 50}, 50, "sensor"),
        ("Canon Canon EOS 700D", {"FocalLength": 50}, 80.7, "sensor"),
        ("Canon Canon EOS R50", {"FocalLength": 50}, 80.7, "sensor"),
        ("SONY ILCE-7M3", {"FocalLength": 50}, 50.3, "sensor"),
        ("SONY ILCE-6400", {"FocalLength": 50}, 76.6, "sensor"),
        ("Panasonic DMC-GH4", {"FocalLength": 25}, 52, "sensor"),
        ("FUJIFILM X-T4", {"FocalLength": 23}, 35.2, "sensor"),
        ("Acme One", {"FocalLength": 23}, None, ""),
        ("NIKON NIKON D5300", {}, None, ""),
    ],
)
def test_where_the_focal_length_is_from(tmp_path, camera, tags, focal, source):
    Image.new("RGB", (60, 40)).save(tmp_path / "a.jpg", exif=described((6000, 4000), camera, **tags))
    photo = read(tmp_path / "a.jpg")
    assert photo.focal_35mm == (None if focal is None else pytest.approx(focal, rel=0.01))
    assert photo.focal_source.startswith(source)
    assert photo.warnings == ()


def test_the_focal_length_of_a_cropped_photo_is_not_believed(tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.jpg", exif=described((4032, 3024), FocalLengthIn35mmFilm=26))
    photo = read(tmp_path / "a.jpg")
    assert photo.focal_35mm is None
    assert "a picture of 4032x3024 and the file is 40x40: it was cropped" in photo.warnings[0]
    Image.new("RGB", (30, 40)).save(tmp_path / "b.jpg", exif=described((4032, 3024), FocalLengthIn35mmFilm=26))
    assert read(tmp_path / "b.jpg").focal_35mm == 26  # made smaller and turned


def test_damaged_exif_is_ignored_with_a_warning(tmp_path):
    Image.new("RGB", (32, 24), RED).save(tmp_path / "a.png", exif=b"Exif\0\0 nothing of the kind")
    photo = read(tmp_path / "a.png")
    assert_solid(photo.rgb, RED)
    assert "EXIF" in photo.warnings[0]


def test_cmyk_jpeg(tmp_path):
    Image.new("CMYK", (32, 24), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    assert_solid(read(tmp_path / "a.jpg").rgb, RED, tolerance=3)


def test_16_bit_grey_is_scaled_not_clipped(tmp_path):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(values).save(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(read(tmp_path / "a.png").rgb)[..., 1], values >> 8)


def test_12_of_16_bits_are_the_whole_range(tmp_path):
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    Image.fromarray(values).save(tmp_path / "a.png")
    photo = read(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(photo.rgb)[..., 1], values >> 4)
    assert "uses 12 of its 16 bits" in photo.warnings[0]


def test_16_bit_rgb_is_scaled_not_clipped(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (20, 30, 3)).astype(">u2")
    write_png(tmp_path / "a.png", (30, 20), 16, 2, b"".join(b"\0" + row.tobytes() for row in values))
    np.testing.assert_array_equal(np.asarray(read(tmp_path / "a.png").rgb), values >> 8)


def test_palette_with_transparency(tmp_path):
    indices = np.repeat(np.array([0, 1, 2], np.uint8), 10)[None].repeat(20, axis=0)
    picture = Image.fromarray(indices, "P")
    picture.putpalette([*RED, *GREEN, *BLUE])
    picture.save(tmp_path / "a.png", transparency=bytes([255, 100, 0]))
    photo = read(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(photo.alpha)[0], np.repeat([255, 100, 0], 10))
    np.testing.assert_array_equal(np.asarray(photo.rgb)[0, [0, 19, 29]], [RED, (128, 128, 128), (128, 128, 128)])


def test_grey_with_alpha(tmp_path):
    values = noise(20, 30, 2)
    values[..., 1] = 200
    Image.fromarray(values, "LA").save(tmp_path / "a.png")
    photo = read(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(photo.alpha), values[..., 1])
    np.testing.assert_array_equal(np.asarray(photo.rgb)[..., 0], values[..., 0])


@pytest.mark.parametrize(("mode", "black", "white"), [("L", 0, 255), ("RGB", (0, 0, 0), (255, 255, 255)), ("1", 0, 1)])
def test_a_transparent_colour(tmp_path, mode, black, white):
    picture = Image.new(mode, (30, 20), black)
    picture.paste(white, (0, 0, 15, 20))
    picture.save(tmp_path / "a.png", transparency=black)
    np.testing.assert_array_equal(np.asarray(read(tmp_path / "a.png").alpha)[0], np.repeat([255, 0], 15))


def test_opaque_alpha_is_dropped(tmp_path):
    pixels = np.dstack([noise(20, 30), np.full((20, 30), 255, np.uint8)])
    Image.fromarray(pixels).save(tmp_path / "a.png")
    photo = read(tmp_path / "a.png")
    assert (photo.alpha, photo.warnings) == (None, ())
    np.testing.assert_array_equal(np.asarray(photo.rgb), pixels[..., :3])


def test_alpha_that_hides_everything_is_ignored_with_a_warning(tmp_path):
    pixels = np.dstack([noise(20, 30), np.zeros((20, 30), np.uint8)])
    Image.fromarray(pixels).save(tmp_path / "a.png")
    photo = read(tmp_path / "a.png")
    assert photo.alpha is None
    assert "transparent everywhere" in photo.warnings[0]
    np.testing.assert_array_equal(np.asarray(photo.rgb), pixels[..., :3])


def test_hidden_colours_do_not_bleed_into_the_object(tmp_path):
    pixels = np.zeros((200, 300, 4), np.uint8)
    pixels[:, :151] = (*RED, 255)
    pixels[:, 151:] = (*GREEN, 0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    photo = read(tmp_path / "a.png", max_side=100)
    rgb, alpha = np.asarray(photo.rgb), np.asarray(photo.alpha)
    assert ((alpha > 0) & (alpha < 255)).any()
    assert rgb[alpha > 0, 1].max() <= 2
    assert (rgb[:, 70:] == 128).all()


def test_the_old_background_is_not_in_the_rim_of_a_soft_cut_out(tmp_path):
    alpha = np.clip(255 * (60 - np.arange(100)) / 8 + 128, 0, 255).astype(np.uint8)
    share = alpha[:, None] / 255
    row = np.column_stack([share * RED + (1 - share) * GREEN, alpha]).astype(np.uint8)
    Image.fromarray(np.tile(row, (40, 1, 1))).save(tmp_path / "a.png")
    photo = read(tmp_path / "a.png")
    rgb = np.asarray(photo.rgb)[0].astype(int)
    assert np.abs(rgb[alpha > 127] - RED).max() <= 5
    assert (rgb[80:] == 128).all()


def test_what_is_translucent_everywhere_keeps_its_colours(tmp_path):
    pixels = np.dstack([noise(20, 30), np.full((20, 30), 180, np.uint8)])
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(read(tmp_path / "a.png").rgb), pixels[..., :3])


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_the_first_frame_of_an_animation(tmp_path, suffix):
    frames = [Image.new("RGB", (32, 24), colour) for colour in (RED, BLUE)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    photo = read(tmp_path / f"a.{suffix}")
    assert_solid(photo.rgb, RED, tolerance=2)
    assert "animated" in photo.warnings[0]


def test_an_srgb_profile_changes_nothing(tmp_path):
    pixels = noise(20, 30)
    Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=SRGB)
    photo = read(tmp_path / "a.png")
    assert np.abs(np.asarray(photo.rgb).astype(int) - pixels).max() <= 1
    assert photo.warnings == ()


def test_a_profile_is_applied(tmp_path):
    # The same profile with the primaries of red and blue exchanged: what is stored red is seen blue.
    swapped = SRGB.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")
    Image.new("RGB", (32, 24), RED).save(tmp_path / "a.png", icc_profile=swapped)
    assert_solid(read(tmp_path / "a.png").rgb, BLUE, tolerance=2)


def test_a_profile_applies_to_colours_under_alpha_and_to_grey(tmp_path):
    Image.new("RGBA", (32, 24), (*RED, 200)).save(tmp_path / "a.png", icc_profile=SRGB)
    photo = read(tmp_path / "a.png")
    assert_solid(photo.rgb, RED, tolerance=1)
    Image.new("L", (32, 24), 99).save(tmp_path / "b.png", icc_profile=SRGB)
    photo = read(tmp_path / "b.png")
    assert_solid(photo.rgb, (99, 99, 99), tolerance=1)
    assert photo.warnings == ()


@pytest.mark.parametrize("profile", [b"no profile", SRGB[:16] + b"CMYK" + SRGB[20:], SRGB[:200]])
def test_a_bad_profile_is_ignored_with_a_warning(tmp_path, profile):
    Image.new("RGB", (32, 24), RED).save(tmp_path / "a.png", icc_profile=profile)
    photo = read(tmp_path / "a.png")
    assert_solid(photo.rgb, RED)
    assert "colour profile" in photo.warnings[0]


@pytest.mark.parametrize("size", [(1000, 750), (1001, 757), (640, 427)])
def test_a_large_jpeg_is_downsampled_like_any_picture(tmp_path, size):
    smooth(size[1], size[0]).save(tmp_path / "a.jpg", quality=95)
    photo = read(tmp_path / "a.jpg", max_side=100)
    with Image.open(tmp_path / "a.jpg") as picture:
        expected = np.asarray(picture.resize(photo.rgb.size, Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(np.asarray(photo.rgb) - expected).mean() < 1
    assert photo.size == size


@given(width=st.integers(1, 20000), height=st.integers(1, 20000), max_side=st.integers(64, 8192))
def test_working_size(width, height, max_side):
    small = working_size((width, height), max_side)
    if max(width, height) <= max_side:
        assert small == (width, height)
    else:
        assert max(small) == max_side
        scale = max_side / max(width, height)
        assert abs(small[0] - width * scale) <= 0.5 or small[0] == 1
        assert abs(small[1] - height * scale) <= 0.5 or small[1] == 1
    assert working_size((height, width), max_side) == small[::-1]


@pytest.mark.parametrize("size", [(1, 1), (15, 100), (5000, 20)])
def test_a_tiny_picture_is_refused(tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=f"'x' is {size[0]}x{size[1]} .* 16x16"):
        read(tmp_path / "a.png")


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.jpg").touch()
    with pytest.raises(InputError, match="'x' is an empty file"):
        read(tmp_path / "a.jpg")


def test_text_is_refused(tmp_path):
    (tmp_path / "a.png").write_text("not a picture")
    with pytest.raises(InputError, match="not a picture in a format that scenegen reads; allowed: JPEG, PNG"):
        read(tmp_path / "a.png")


def test_other_formats_are_refused(tmp_path):
    Image.new("RGB", (32, 24)).save(tmp_path / "a.tga")
    with pytest.raises(InputError, match="allowed: JPEG, PNG"):
        read(tmp_path / "a.tga")


@pytest.mark.parametrize("suffix", ["avif", "heic", "jp2"])
def test_what_begins_like_a_picture_is_said_to_be_damaged(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise(60, 80)).save(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match="damaged"):
        read(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp"])
def test_a_truncated_picture_is_refused(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise(60, 80)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"'x' cannot be read: it is damaged or incomplete \(.*Save it again"):
        read(path)


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    extra = {"exif": exif(6, 35), "icc_profile": SRGB} if kind not in ("GIF", "JPEG2000") else {}
    Image.fromarray(noise(24, 32)).save(buffer, kind, **extra)
    return buffer.getvalue()


ENCODED = {kind: encoded(kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF", "JPEG2000")}


@pytest.mark.parametrize("kind", ENCODED)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_bytes_give_a_picture_or_an_input_error(tmp_path_factory, kind, data):
    damaged = bytearray(ENCODED[kind])
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / f"damaged-{kind}"
    path.write_bytes(damaged[: data.draw(st.integers(1, len(damaged)))])
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(InputError):
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
        photo = read(path, max_side=64)
        assert photo.rgb.mode == "RGB"
        assert 16 <= min(photo.rgb.size) <= max(photo.rgb.size) <= 64
