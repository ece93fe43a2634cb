import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scenegen.errors import InputError
from scenegen.pixal3d.preprocess import (
    MARGIN,
    MAX_SIDE,
    SOLID_ALPHA,
    image_tensor,
    object_picture,
    on_black,
    square_cutout,
    view_tensor,
)


def cutout(height: int, width: int, box: tuple[int, int, int, int], colour: int = 200) -> np.ndarray:
    """A solid rectangle, from (left, top) up to but without (right, bottom)."""
    left, top, right, bottom = box
    rgba = np.zeros((height, width, 4), np.uint8)
    rgba[top:bottom, left:right] = (colour, colour // 2, 10, 255)
    return rgba


@settings(max_examples=50, deadline=None)
@given(
    st.integers(61, 90),
    st.integers(61, 90),
    st.tuples(st.integers(0, 15), st.integers(0, 15)),
    st.tuples(st.integers(47, 60), st.integers(47, 60)),
)
def test_the_crop_is_an_even_square_about_the_whole_object(height, width, start, end):
    rgba = cutout(height, width, (start[0], start[1], end[0], end[1]))
    crop = square_cutout(rgba)
    extent = max(end[0] - start[0], end[1] - start[1]) - 1
    side = 2 * (int(extent * MARGIN) // 2)
    assert crop.shape == (side, side, 4)
    rows, columns = np.nonzero(crop[..., 3])
    assert len(rows) == np.count_nonzero(rgba[..., 3])
    for found in (rows, columns):
        assert abs((found.min() + found.max()) / 2 - side / 2) <= 0.5


def test_the_box_has_no_extent_of_pixels_so_that_a_tiny_object_loses_its_border():
    assert square_cutout(cutout(20, 20, (2, 2, 12, 12))).shape == (8, 8, 4)


def test_the_crop_leaves_the_picture_transparent_and_black():
    crop = square_cutout(cutout(40, 60, (0, 10, 40, 20)))  # columns 0 to 39, rows 10 to 19
    half = int(39 * MARGIN) // 2
    assert crop.shape == (2 * half, 2 * half, 4)
    # The centre (19.5, 14.5) less 21 is -1.5 and -6.5; half-integers round to even.
    assert not crop[:, :2].any()
    assert (crop[6 + 10 : 6 + 20, 2, 3] == 255).all()
    assert np.count_nonzero(crop[..., 3]) == 40 * 10


def test_pixels_of_little_alpha_do_not_count_but_are_kept():
    rgba = cutout(60, 60, (20, 20, 40, 40))
    rgba[30, 39:41, 3] = SOLID_ALPHA
    rgba[20:40, 10:50][:, ::39, 3] = SOLID_ALPHA
    crop = square_cutout(rgba)
    assert crop.shape == square_cutout(cutout(60, 60, (20, 20, 40, 40))).shape
    assert SOLID_ALPHA in crop[..., 3]


def test_large_pictures_are_shrunk_first():
    crop = square_cutout(cutout(600, 2 * MAX_SIDE, (200, 100, 800, 300)))
    assert abs(crop.shape[0] - 300 * MARGIN) <= 4


def test_colours_are_multiplied_by_alpha_and_rounded_down():
    colour, alpha = np.meshgrid(np.arange(256), np.arange(256))
    rgba = np.stack([colour, colour, colour, alpha], -1).astype(np.uint8)
    exact = colour * alpha // 255
    ours = on_black(rgba)[..., 0].astype(int)
    assert ((exact - 1 <= ours) & (ours <= exact)).all()
    assert np.mean(ours == exact) > 0.99
    assert not ours[0].any()


def test_the_picture_of_an_object_is_opaque_rgb():
    picture = object_picture(cutout(60, 60, (20, 20, 40, 40)))
    assert picture.shape == (20, 20, 3)
    assert picture[10, 10].tolist() == [200, 100, 10]


def test_a_picture_of_the_right_size_stays_as_it_is():
    rgb = np.random.default_rng(0).integers(0, 256, (24, 24, 3)).astype(np.uint8)
    tensor = image_tensor(rgb, 24)
    assert torch.equal(tensor, torch.from_numpy(rgb).permute(2, 0, 1) / 255)
    assert image_tensor(rgb, 10).shape == (3, 10, 10)


def test_views_keep_their_framing_and_are_composed_without_rounding():
    rgba = np.random.default_rng(0).integers(0, 256, (16, 16, 4)).astype(np.uint8)
    unit = torch.from_numpy(rgba).permute(2, 0, 1) / 255
    assert torch.equal(view_tensor(rgba, 16), unit[:3] * unit[3:])


def test_the_hidden_colour_of_a_view_does_not_bleed_in():
    rgba = cutout(32, 32, (8, 8, 24, 24), colour=100)
    green = rgba.copy()
    green[rgba[..., 3] == 0] = (0, 255, 0, 0)
    assert torch.equal(view_tensor(green, 12), view_tensor(rgba, 12))


@pytest.mark.parametrize(
    ("rgba", "message"),
    [
        (np.full((9, 9, 4), 255, np.uint8), "opaque everywhere"),
        (np.zeros((9, 9, 4), np.uint8), "0 pixels of alpha above 204"),
        (cutout(9, 9, (3, 3, 4, 4)), "1 pixels of alpha above 204"),
    ],
)
def test_a_picture_without_a_cut_out_object_is_refused(rgba, message):
    with pytest.raises(InputError, match=message):
        object_picture(rgba)
