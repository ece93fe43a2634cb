"""Pictures seen through other cameras stay true."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor

from scenegen.perception.network import PHOTO_FOCAL, STRIDE, places
from scenegen.train.pictures import TrainingPicture
from scenegen.train.pool import CROP_MARGIN, CUTOUT_MARGIN, Batch, Pool, reduced, rotations
from tests.train.pictured import CAMERA, CUP, DOWN, FOCAL, HEIGHT, NORMAL, OFFSET, WIDTH, made_picture, plane_depth

CPU = torch.device("cpu")
STRAIGHT = torch.eye(3)[None]


def pool_of(*pictures: TrainingPicture, side: int = 96) -> Pool:
    pool = Pool(len(pictures), side, CPU)
    for picture in pictures:
        pool.add(picture)
    return pool


def seen(
    pool: Pool,
    turn: Float[Tensor, "1 3 3"],
    focal: float,
    width: int,
    height: int,
    mirrored: bool,
) -> Batch:
    """The first picture through a camera; mirrored or not."""
    for seed in range(64):
        torch.manual_seed(seed)
        if bool(torch.rand(1) < 0.5) == mirrored:
            torch.manual_seed(seed)
            return pool.seen(torch.zeros(1, dtype=torch.long), turn, torch.tensor([focal]), width, height)
    raise AssertionError


def unmirrored(batch: Batch) -> Batch:
    return replace(
        batch,
        images=batch.images.flip(3),
        ids=batch.ids.flip(2),
        log_depth=batch.log_depth.flip(2),
        down=batch.down * torch.tensor([-1.0, 1, 1]),
    )


def test_the_same_camera_sees_the_same() -> None:
    picture = made_picture()
    batch = seen(pool_of(picture), STRAIGHT, FOCAL, WIDTH, HEIGHT, mirrored=False)
    np.testing.assert_allclose(255 * batch.images[0].permute(1, 2, 0).numpy(), picture.image, atol=0.1)
    middle = slice(STRIDE // 2, None, STRIDE)
    np.testing.assert_array_equal(batch.ids[0].numpy(), picture.ids[middle, middle])
    np.testing.assert_allclose(np.exp(batch.log_depth[0].numpy()), plane_depth()[middle, middle], rtol=0.05)
    assert float(batch.focal[0]) == FOCAL
    np.testing.assert_allclose(batch.down[0].numpy(), DOWN, atol=1e-6)
    assert batch.nouns[0, [1, 2]].tolist() == [-1, CUP]
    assert bool(batch.exhaustive[0])


def test_a_mirrored_picture_is_mirrored_whole() -> None:
    pool = pool_of(made_picture())
    turn = rotations(torch.tensor([0.1]), torch.tensor([-0.05]), torch.tensor([0.1]))
    straight = seen(pool, turn, 110.0, 64, 96, mirrored=False)
    back = unmirrored(seen(pool, turn, 110.0, 64, 96, mirrored=True))
    for name in ("images", "ids", "log_depth", "down", "focal"):
        assert torch.equal(getattr(back, name), getattr(straight, name)), name


@settings(max_examples=20, deadline=None)
@given(
    pitch=st.floats(-0.2, 0.2),
    yaw=st.floats(-0.2, 0.2),
    roll=st.floats(-0.3, 0.3),
    focal=st.floats(60, 200),
    mirrored=st.booleans(),
)
def test_a_plane_stays_that_plane_under_every_camera(
    pitch: float, yaw: float, roll: float, focal: float, mirrored: bool
) -> None:
    """Depth, focal length and gravity transform by one rotation: each point of the view lies on the turned plane."""
    turn = rotations(torch.tensor([pitch]), torch.tensor([yaw]), torch.tensor([roll]))
    batch = seen(pool_of(made_picture()), turn, focal, 128, 96, mirrored)
    if mirrored:
        batch = unmirrored(batch)
    view_from_picture = turn[0].numpy().T
    np.testing.assert_allclose(batch.down[0].numpy(), view_from_picture @ DOWN, atol=1e-5)
    assert float(batch.focal[0]) == pytest.approx(focal)
    known = batch.log_depth[0].isfinite().numpy()
    assert known.any()
    flat = (places(24, 32, CPU) * 32 * STRIDE / focal).numpy()
    points = np.exp(batch.log_depth[0].numpy())[..., None] * np.concatenate([flat, np.ones((24, 32, 1))], -1)
    distance = points[known] @ (view_from_picture @ NORMAL)
    # Depth is that of the nearest pixel, in half precision.
    assert np.median(np.abs(distance / OFFSET - 1)) < 0.01
    assert np.abs(distance / OFFSET - 1).max() < 0.05


def test_rotations_turn_about_their_axes() -> None:
    angle, zero = torch.tensor([0.3]), torch.zeros(1)
    ahead, right = torch.tensor([0.0, 0, 1]), torch.tensor([1.0, 0, 0])
    assert torch.allclose(rotations(angle, zero, zero)[0] @ ahead, torch.tensor([0, -math.sin(0.3), math.cos(0.3)]))
    assert torch.allclose(rotations(zero, angle, zero)[0] @ ahead, torch.tensor([math.sin(0.3), 0, math.cos(0.3)]))
    assert torch.allclose(rotations(zero, zero, angle)[0] @ right, torch.tensor([math.cos(0.3), math.sin(0.3), 0]))
    both = rotations(torch.tensor([0.2]), torch.tensor([-0.4]), angle)[0]
    assert torch.allclose(both @ both.T, torch.eye(3), atol=1e-6)


def test_beyond_the_picture_nothing_is_known_and_its_rim_goes_on() -> None:
    batch = seen(pool_of(made_picture()), STRAIGHT, FOCAL / 2, WIDTH, HEIGHT, mirrored=False)
    rows, columns = HEIGHT // STRIDE, WIDTH // STRIDE
    inner = torch.zeros(rows, columns, dtype=torch.bool)
    inner[rows // 4 + 1 : 3 * rows // 4 - 1, columns // 4 : 3 * columns // 4] = True
    assert (batch.ids[0][inner] >= 0).all()
    assert batch.log_depth[0][inner].isfinite().all()
    for edge in (batch.ids[0, 0], batch.ids[0, :, 0], batch.ids[0, -1], batch.ids[0, :, -1]):
        assert (edge == -1).all()
    for edge in (batch.log_depth[0, 0], batch.log_depth[0, :, -1]):
        assert (edge == -math.inf).all()
    background = torch.tensor([120.0, 130, 125]) / 255
    assert torch.allclose(batch.images[0, :, 0, 0], background, atol=0.01)


def test_what_is_unknown_of_a_picture_stays_unknown() -> None:
    ids = np.full((HEIGHT, WIDTH), 255, np.uint8)
    batch = seen(
        pool_of(made_picture(ids=ids, log_depth=None, camera=None, down=None, exhaustive=False, nouns={})),
        STRAIGHT, PHOTO_FOCAL * WIDTH, WIDTH, HEIGHT, mirrored=False,
    )  # fmt: skip
    assert (batch.ids == -1).all()
    assert (batch.log_depth == -math.inf).all()
    assert batch.focal.isnan().all()
    assert batch.down.isnan().all()
    assert not batch.exhaustive.any()
    assert (batch.nouns == -1).all()


def test_sky_stays_sky() -> None:
    depth = np.full((HEIGHT, WIDTH), np.inf, np.float32)
    turn = rotations(torch.tensor([0.1]), torch.tensor([0.1]), torch.tensor([0.1]))
    batch = seen(pool_of(made_picture(log_depth=depth)), turn, 200.0, 64, 64, mirrored=False)
    assert (batch.log_depth[batch.ids >= 0] == math.inf).all()


def test_larger_pictures_are_reduced_with_their_cameras() -> None:
    small = reduced(made_picture(), 48)
    assert small.ids.shape == (36, 48)
    assert small.image.shape == (36, 48, 3)
    assert small.log_depth is not None
    assert small.log_depth.shape == (36, 48)
    np.testing.assert_allclose(small.camera, CAMERA / 2)
    same = made_picture()
    assert reduced(same, WIDTH) is same


def test_the_newest_replace_the_oldest() -> None:
    pool = Pool(2, 96, CPU)
    assert len(pool) == 0
    for level in (10, 20, 30):
        pool.add(made_picture(image=np.full((HEIGHT, WIDTH, 3), level, np.uint8)))
    assert len(pool) == 2
    batch = pool.draw(40, 64, 64)
    assert {round(255 * float(value)) for value in batch.images[:, 0, 32, 32]} == {20, 30}


@pytest.mark.parametrize("number", [1, 2])
def test_a_crop_shows_one_object_in_its_middle_with_the_margin_asked_for(number: int) -> None:
    picture = made_picture()
    alone = replace(picture, ids=np.where(picture.ids == number, picture.ids, 0).astype(np.uint8))
    pool = pool_of(alone)
    torch.manual_seed(number)
    batch, focal_share = pool.crops(40, 96)
    assert batch.ids.shape == (40, 24, 24)
    assert torch.allclose(focal_share * 96, batch.focal)
    assert batch.ids.unique().tolist() == [0, 1]
    for ids in batch.ids:
        rows, columns = (ids == 1).nonzero().unbind(1)
        low = torch.stack([columns.min(), rows.min()]).float()
        high = torch.stack([columns.max(), rows.max()]).float() + 1
        longest = float((high - low).max()) / 24
        # The view may be turned, and off the axis a box looks smaller.
        assert 0.8 / CROP_MARGIN[1] < longest < 1.15 / CROP_MARGIN[0]
        assert ((low + high) / 2 / 24 - 0.5).abs().max() < 0.06 + 0.06
    with_depth = batch.log_depth[batch.ids == 1]
    assert with_depth.isfinite().all()


def test_crops_are_of_pictures_with_depth_where_there_are_any() -> None:
    known, unknown = made_picture(), made_picture(log_depth=None, image=np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    batch, _ = pool_of(unknown, known, unknown).crops(20, 64)
    assert (batch.images.amax((1, 2, 3)) > 0.3).all()
    batch, _ = pool_of(unknown).crops(4, 64)
    assert (batch.log_depth == -math.inf).all()


def test_crops_of_a_picture_without_objects_show_none() -> None:
    batch, _ = pool_of(made_picture(ids=np.zeros((HEIGHT, WIDTH), np.uint8))).crops(3, 64)
    assert not (batch.ids == 1).any()
    assert batch.images.isfinite().all()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_drawn_views_show_most_of_the_picture(seed: int) -> None:
    torch.manual_seed(seed)
    batch = pool_of(made_picture(), made_picture()).draw(4, 96, 64)
    assert batch.images.shape == (4, 3, 64, 96)
    assert (batch.images >= 0).all()
    assert (batch.images <= 1).all()
    assert ((batch.ids >= 0).float().mean((1, 2)) > 0.3).all()
    assert torch.allclose(batch.down.norm(dim=1), torch.ones(4), atol=1e-5)
    joined = Batch.joined([batch, batch])
    assert joined.ids.shape == (8, 16, 24)


def test_cutouts_show_single_whole_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disc of radius 17 and a box of 30x36, each in a square a little larger; what reaches the border is no whole object."""
    monkeypatch.setattr("scenegen.train.pool.LEAST_CELLS", 20)
    torch.manual_seed(0)
    made = pool_of(made_picture()).cutouts(40, 64)
    discs = made.nouns == -1
    assert discs.any()
    assert (~discs).any()
    assert torch.equal(made.nouns[~discs], torch.full_like(made.nouns[~discs], CUP))
    for chosen, side, area, colour in (
        (discs, 34, math.pi * 17**2, (220, 40, 30)),
        (~discs, 36, 30 * 36, (30, 60, 210)),
    ):
        extent = made.extents[chosen]
        assert torch.allclose(extent, torch.tensor(CUTOUT_MARGIN * side), atol=1.5)
        covered = made.shares[chosen].mean((1, 2, 3)) * extent**2
        assert torch.allclose(covered, torch.tensor(float(area)), rtol=0.03)
        inside = made.images[chosen][..., 20:44, 24:40]
        assert torch.allclose(255 * inside, torch.tensor(colour, dtype=torch.float32)[:, None, None], atol=0.1)
    ids = made_picture().ids
    cut = pool_of(made_picture(ids=np.where(np.arange(HEIGHT)[:, None] < 40, 1, 0 * ids).astype(np.uint8)))
    assert not cut.cutouts(8, 64).shares.any()
    empty = pool_of(made_picture(ids=0 * ids))
    assert not empty.cutouts(8, 64).shares.any()
