from __future__ import annotations

import base64

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scenegen.export import figures

GREY = [128, 128, 128]


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 64))
def test_fitted_keeps_the_shape_and_never_enlarges(height: int, width: int, side: int) -> None:
    small = figures.fitted(np.zeros((height, width, 3), np.uint8), side)
    assert max(small.shape[:2]) == min(side, max(height, width))
    scale = max(small.shape[:2]) / max(height, width)
    assert abs(small.shape[0] - max(1, height * scale)) <= 0.5
    assert abs(small.shape[1] - max(1, width * scale)) <= 0.5


def test_fitted_ids_are_not_mixed() -> None:
    ids = np.zeros((60, 80), np.int32)
    ids[:, 40:] = 300
    assert set(np.unique(figures.fitted(ids, 13, ids=True))) == {0, 300}


def test_objects_have_different_colors() -> None:
    colors = np.array([figures.object_color(i) for i in range(1, 25)])
    distances = np.abs(colors[:, None] - colors[None]).sum(axis=-1) + 1000 * np.eye(len(colors), dtype=int)
    assert distances.min() > 20


@given(arrays(np.uint16, (12, 17), elements=st.integers(0, 4)))
def test_labels_lie_in_their_masks(ids: np.ndarray) -> None:
    places = figures.label_places(ids)
    assert set(places) == set(np.unique(ids[ids > 0]).tolist())
    for object_id, (u, v) in places.items():
        assert ids[int(v), int(u)] == object_id


def test_label_of_a_rectangle_is_in_its_middle() -> None:
    ids = np.zeros((50, 50), np.uint16)
    ids[10:21, 20:31] = 3
    assert figures.label_places(ids) == {3: (25.5, 15.5)}


def test_masks_are_tinted_and_the_rest_is_grey() -> None:
    photo = np.full((60, 60, 3), (40, 120, 200), np.uint8)
    ids = np.zeros((60, 60), np.uint16)
    ids[20:40, 20:40] = 2
    painted = figures.paint_masks(photo, ids).astype(int)
    assert np.abs(painted[30, 30] - (np.array([40, 120, 200]) + figures.object_color(2)) / 2).max() <= 1
    assert np.ptp(painted[2, 2]) == 0
    outlined = figures.paint_outlines(photo, ids)
    assert np.abs(outlined[20, 30] - np.array(figures.object_color(2))).max() < 60
    assert outlined[18, 30].min() > 140, "a white rim outside"
    assert (outlined[30, 30] == photo[30, 30]).all()
    assert (photo == (40, 120, 200)).all(), "the input is left alone"


def test_depth_colors_run_from_yellow_to_violet_evenly_in_inverse_depth() -> None:
    depth = np.repeat(1 / np.linspace(1, 0.25, 64, dtype=np.float32)[None], 8, axis=0)
    depth[7] = 0
    near, far = figures.depth_range(depth)
    assert 1.0 <= near < 1.05
    assert 3.8 < far <= 4.0
    painted = figures.paint_depth(depth).astype(int)
    assert (painted[7] == GREY).all()
    assert (np.diff(painted[0, :, 1]) <= 0).all(), "viridis loses green steadily from near to far"
    scale = figures.depth_scale()
    middle = tuple(int(scale[len(scale) // 2][i : i + 2], 16) for i in (1, 3, 5))
    assert np.abs(painted[0, 31:33].mean(axis=0) - middle).max() < 8


def test_depth_without_any_known_pixel_is_grey() -> None:
    depth = np.zeros((4, 4), np.float32)
    assert figures.depth_range(depth) == (0.0, 0.0)
    assert (figures.paint_depth(depth) == 128).all()


def test_difference_is_black_where_equal_and_grey_where_nothing_is() -> None:
    photo = np.full((3, 1, 3), 100, np.uint8)
    rendered = photo.copy()
    rendered[1, 0, 2] = 230
    painted = figures.paint_difference(photo, rendered, np.array([[True], [True], [False]]))
    assert painted[0].max() < 8
    assert painted[1].sum() > 500
    assert (painted[2] == 128).all()


def test_cut_out_is_as_large_as_the_mask() -> None:
    photo = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    mask = np.zeros((40, 50), bool)
    mask[5:15, 10:30] = True
    mask[5, 10] = False
    cut = figures.cut_out(photo, mask, side=100)
    assert cut.shape == (10, 20, 4)
    assert (cut[..., :3] == photo[5:15, 10:30]).all()
    assert cut[0, 0, 3] == 0
    assert cut[1:, :, 3].min() == 255
    assert figures.cut_out(photo, mask, side=10).shape == (5, 10, 4)


@pytest.mark.parametrize("channels", [3, 4])
def test_png_uri_holds_the_picture(channels: int) -> None:
    picture = np.random.default_rng(1).integers(0, 255, (7, 9, channels), np.uint8)
    head, data = figures.data_uri(picture, "png").split(",")
    assert head == "data:image/png;base64"
    back = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_UNCHANGED)
    order = [2, 1, 0, 3][:channels]
    assert (back[..., order] == picture).all()
