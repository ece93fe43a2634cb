from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from scenegen.errors import InputError
from scenegen.ids import UNKNOWN
from scenegen.untrusted.masks import MAX_OBJECTS, ROWS, _distinct, read_masks
from scenegen.untrusted.photo import UprightPhoto
from scenegen.untrusted.resample import nearest

RED, GREEN, BLUE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)


def photo_of(width: int, height: int, scale: float = 1.0, transpose: Image.Transpose | None = None) -> UprightPhoto:
    """A photo of `width` x `height` upright pixels; stored on its side where there is a `transpose`."""
    rgb = Image.new("RGB", (round(width * scale), round(height * scale)))
    stored = (width, height) if transpose is None else (height, width)
    return UprightPhoto(rgb, None, stored, transpose, (width, height), None, ())


def boxes(background: object, **colours: object) -> np.ndarray:
    """30 x 20: `left` fills the left third, `right` the right third, the rest is `background`."""
    pixels = np.empty((20, 30, *np.shape(background)), np.uint16 if np.ndim(background) == 0 else np.uint8)
    pixels[:] = background
    pixels[:, :10] = colours.get("left", background)
    pixels[:, 20:] = colours.get("right", background)
    return pixels


def save(path: Path, pixels: np.ndarray, mode: str | None = None, **options: object) -> Path:
    Image.fromarray(pixels, mode).save(path, **options)
    return path


def test_grey_values_are_ids(tmp_path):
    path = save(tmp_path / "m.png", boxes(0, left=7, right=200).astype(np.uint8))
    ids, warnings = read_masks([path], photo_of(30, 20))
    np.testing.assert_array_equal(ids, boxes(0, left=7, right=200))
    assert ids.dtype == np.uint16
    assert warnings == []


def test_16_bit_values_are_ids(tmp_path):
    path = save(tmp_path / "m.png", boxes(0, left=300, right=65534))
    ids, _ = read_masks([path], photo_of(30, 20))
    np.testing.assert_array_equal(ids, boxes(0, left=300, right=65534))


def test_unknown_stays_unknown_so_that_the_masks_of_a_scene_can_be_given_back(tmp_path):
    path = save(tmp_path / "m.png", boxes(0, left=300, right=UNKNOWN))
    ids, warnings = read_masks([path], photo_of(30, 20))
    np.testing.assert_array_equal(ids, boxes(0, left=300, right=UNKNOWN))
    assert warnings == []


def test_white_on_black_in_16_bits_is_one_object(tmp_path):
    path = save(tmp_path / "m.png", boxes(0, left=65535))
    np.testing.assert_array_equal(read_masks([path], photo_of(30, 20))[0], boxes(0, left=1))


def test_one_bit_is_one_object(tmp_path):
    Image.fromarray(boxes(0, right=255).astype(np.uint8)).convert("1").save(tmp_path / "m.png")
    ids, _ = read_masks([tmp_path / "m.png"], photo_of(30, 20))
    np.testing.assert_array_equal(ids, boxes(0, right=1))


@pytest.mark.parametrize("suffix", ["png", "gif", "bmp"])
def test_palette_indices_are_ids_whatever_their_colours(tmp_path, suffix):
    picture = Image.fromarray(boxes(0, left=2, right=1).astype(np.uint8), "P")
    picture.putpalette([*BLUE, *RED, *GREEN])
    picture.save(tmp_path / f"m.{suffix}")
    ids, _ = read_masks([tmp_path / f"m.{suffix}"], photo_of(30, 20))
    np.testing.assert_array_equal(ids, boxes(0, left=2, right=1))


def test_colours_become_ids_in_order_of_first_appearance(tmp_path):
    path = save(tmp_path / "m.png", boxes(BLACK, left=RED, right=GREEN))
    ids, _ = read_masks([path], photo_of(30, 20))
    np.testing.assert_array_equal(ids, boxes(0, left=1, right=2))
    path = save(tmp_path / "n.png", boxes(BLACK, left=GREEN, right=RED)[:, ::-1])
    ids, _ = read_masks([path], photo_of(30, 20))
    np.testing.assert_array_equal(ids, boxes(0, left=1, right=2))


def test_transparent_colours_are_no_object(tmp_path):
    path = save(tmp_path / "m.png", boxes((*RED, 0), left=(*RED, 255), right=(*BLUE, 128)))
    ids, _ = read_masks([path], photo_of(30, 20))
    np.testing.assert_array_equal(ids, boxes(0, left=1, right=2))


def test_a_photo_is_no_mask(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    with pytest.raises(InputError, match=r"more than 254 ids or colours.*anti-aliasing"):
        read_masks([save(tmp_path / "m.png", pixels)], photo_of(30, 20))


def test_a_jpeg_of_ids_is_refused(tmp_path):
    path = save(tmp_path / "m.jpg", boxes(0, left=255).astype(np.uint8))
    with pytest.raises(InputError, match=r"is a JPEG.*as PNG"):
        read_masks([path], photo_of(30, 20))


def test_one_picture_per_object_earlier_ones_stay_in_front(tmp_path):
    opaque = save(tmp_path / "1.png", boxes(0, left=3).astype(np.uint8))
    cut_out = save(tmp_path / "2.png", boxes((*RED, 127), left=(*BLACK, 255), right=(*BLACK, 128)))
    coloured = save(tmp_path / "3.png", boxes((0, 0, 1)))
    ids, warnings = read_masks([opaque, cut_out, coloured], photo_of(30, 20))
    np.testing.assert_array_equal(ids, boxes(3, left=1, right=2))
    assert warnings == []


def test_opaque_alpha_says_nothing_about_the_object(tmp_path):
    paths = [
        save(tmp_path / "1.png", boxes((*BLACK, 255), left=(9, 9, 9, 255))),
        save(tmp_path / "2.png", boxes(0, right=1000)),
    ]
    ids, _ = read_masks(paths, photo_of(30, 20))
    np.testing.assert_array_equal(ids, boxes(0, left=1, right=2))


def test_the_noise_of_a_jpeg_is_not_the_object(tmp_path):
    wide = np.zeros((32, 64), np.uint8)
    wide[:, 5:21] = 255
    paths = [save(tmp_path / f"{n}.jpg", pixels, quality=60) for n, pixels in enumerate([wide, wide[:, ::-1]])]
    ids, _ = read_masks(paths, photo_of(64, 32))
    np.testing.assert_array_equal(ids, (wide > 0) + 2 * (wide[:, ::-1] > 0))


def test_a_hidden_object_is_warned_about(tmp_path):
    path = save(tmp_path / "1.png", boxes(0, left=1).astype(np.uint8))
    ids, warnings = read_masks([path, path], photo_of(30, 20))
    assert np.unique(ids).tolist() == [0, 1]
    assert warnings == ["masks: at working size no pixel is left of object 2"]


@pytest.mark.parametrize("count", [1, 2])
def test_masks_without_any_object_are_refused(tmp_path, count):
    path = save(tmp_path / "m.png", boxes(BLACK))
    with pytest.raises(InputError, match="has no object"):
        read_masks([path] * count, photo_of(30, 20))


def test_too_many_pictures_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"255 pictures.*at most 254"):
        read_masks([tmp_path / "absent.png"] * (MAX_OBJECTS + 1), photo_of(30, 20))


def test_another_size_is_refused_with_both_sizes(tmp_path):
    path = save(tmp_path / "m.png", boxes(0, left=1))
    with pytest.raises(InputError, match="is 30x20 pixels and the photo 60x40"):
        read_masks([path], photo_of(60, 40))


def test_a_mask_stored_as_the_photo_was_is_turned_like_it(tmp_path):
    upright = boxes(0, left=1, right=2)
    photo = photo_of(30, 20, transpose=Image.Transpose.ROTATE_270)
    for name, pixels in {"upright": upright, "stored": np.rot90(upright)}.items():
        ids, _ = read_masks([save(tmp_path / f"{name}.png", np.ascontiguousarray(pixels))], photo)
        np.testing.assert_array_equal(ids, upright)


def test_ids_do_not_depend_on_the_working_size(tmp_path):
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[0, 0] = RED  # too small to be left at half the size
    pixels[20:, :30] = GREEN
    pixels[20:, 30:] = BLUE
    ids, warnings = read_masks([save(tmp_path / "m.png", pixels)], photo_of(60, 40, scale=0.5))
    assert np.unique(ids).tolist() == [0, 2, 3]
    assert warnings == ["masks: at working size no pixel is left of object 1"]
    np.testing.assert_array_equal(ids[10:], np.repeat([2, 3], 15)[None].repeat(10, axis=0))


def test_a_truncated_mask_is_refused(tmp_path):
    path = save(tmp_path / "m.png", np.random.default_rng(0).integers(0, 9, (200, 300), np.uint8))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match="id picture of `masks` cannot be read"):
        read_masks([path], photo_of(300, 200))


@given(
    values=arrays.arrays(
        np.uint16, st.tuples(st.integers(1, 2 * ROWS + 9), st.integers(1, 4)), elements=st.integers(0, 30)
    )
)
def test_distinct_is_the_order_of_a_plain_scan(values):
    assert _distinct(values, "mask") == [value for value in dict.fromkeys(values.ravel().tolist()) if value]


@given(size=st.tuples(st.integers(1, 40), st.integers(1, 40)), factor=st.integers(1, 5))
def test_nearest_takes_the_value_under_the_centre(size, factor):
    values = np.arange(size[0] * size[1]).reshape(size[1], size[0])
    np.testing.assert_array_equal(nearest(values, size), values)
    larger = values.repeat(factor, axis=0).repeat(factor, axis=1)
    np.testing.assert_array_equal(nearest(larger, size), values)
    np.testing.assert_array_equal(nearest(values, (size[0] * factor, size[1] * factor)), larger)
