"""The second look at each object: what a network sees in crops comes out right in the photo."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from scenegen.camera import crop_camera, intrinsics_from_fov, pixel_centres, rays
from scenegen.errors import InputError
from scenegen.perception import relief
from scenegen.perception.network import RELIEF_UNITS, STRIDE, Prediction
from scenegen.perception.relief import MARGIN, SIDE, look_again
from scenegen.records import CropCamera, Intrinsics
from tests.perception.said import Scripted, said

WIDTH, HEIGHT = 160, 120
CAMERA = intrinsics_from_fov(WIDTH, HEIGHT, 60.0)
PLANES = {1: np.array([0.4, -0.3, 1.0]), 3: np.array([-0.5, 0.2, 1.0])}
"""n . X = 1 of each object."""
LOG_ERROR = -2.0


def two_objects() -> np.ndarray:
    ids = np.zeros((HEIGHT, WIDTH), np.uint16)
    u, v = np.moveaxis(pixel_centres(WIDTH, HEIGHT), -1, 0)
    ids[np.hypot(u - 40, v - 40) < 25] = 1
    ids[70:110, 90:155] = 3
    return ids


def relief_of(normal: np.ndarray, crop: CropCamera) -> Float[Tensor, "c c"]:
    """What is to be seen of a plane in the crop: log z over the crop's width at distance 1, and some constant."""
    cells = SIDE // STRIDE
    intrinsics = crop.intrinsics
    seen = rays(intrinsics, STRIDE * pixel_centres(cells, cells)) @ (np.array(crop.crop_from_camera) @ normal)
    return torch.from_numpy(-np.log(seen) / (intrinsics.width / intrinsics.fx) + 0.7).float()


def network_for(crops: list[tuple[int, CropCamera]]) -> tuple[Scripted, list[Tensor]]:
    """One that sees the planes in the crops, in straight and mirrored batches by turns; and what it was shown."""
    calls = count()
    shown: list[Tensor] = []
    straight = torch.stack([relief_of(PLANES[number], crop) for number, crop in crops])

    def seen(pictures: Tensor) -> Prediction:
        shown.append(pictures)
        values = straight if next(calls) % 2 == 0 else straight.flip(2)
        return said(torch.zeros_like(values), relief=values, relief_log_error=torch.full_like(values, LOG_ERROR))

    return Scripted(seen=seen), shown


def crops_of(ids: np.ndarray) -> list[tuple[int, CropCamera]]:
    return [(number, crop_camera(CAMERA, ids == number, SIDE, MARGIN)) for number in PLANES]


def test_a_tilted_plane_in_a_crop_is_that_plane_in_the_photo() -> None:
    ids = two_objects()
    image = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    network, shown = network_for(crops_of(ids))
    made = dict(look_again(network, image, ids, CAMERA))
    assert list(made) == [1, 3]
    for number, normal in PLANES.items():
        expected = -np.log(rays(CAMERA)[ids == number] @ normal)
        spread = expected.std()
        assert spread > 0.02
        off = np.abs(made[number].log_depth - (expected - expected.mean()))
        assert off.mean() < 0.02 * spread
        assert off.max() < 0.15 * spread  # at the rim, where cells beyond the outline are left out
        # A Laplace distribution's standard deviation is the root of two times its scale.
        error = np.sqrt(2) * np.exp(LOG_ERROR) / RELIEF_UNITS * MARGIN
        assert made[number].error == pytest.approx(error, rel=1e-5)
    straight, mirrored = shown
    assert torch.equal(straight.flip(3), mirrored)


def test_an_object_is_shown_alone_in_the_middle_before_grey() -> None:
    ids = two_objects()
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[ids == 1], image[ids == 3] = (250, 0, 0), (0, 250, 0)
    network, shown = network_for(crops_of(ids))
    list(look_again(network, image, ids, CAMERA))
    first, second = (255 * picture for picture in shown[0])
    for picture, channel in ((first, 0), (second, 1)):
        assert torch.allclose(picture[:, :4], torch.tensor(float(relief.GREY)))
        middle = picture[:, SIDE // 2, SIDE // 2]
        assert float(middle[channel]) > 200
        assert float(middle.sum() - middle[channel]) < 10


def test_an_object_that_no_crop_shows_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = two_objects()
    crops = crops_of(ids)

    def refusing(camera: Intrinsics, mask: np.ndarray, size: int, margin: float) -> CropCamera:
        if mask[40, 40]:
            raise InputError("too wide")
        return crop_camera(camera, mask, size, margin)

    monkeypatch.setattr(relief, "crop_camera", refusing)
    network, _ = network_for(crops[1:])
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    assert [number for number, _ in look_again(network, image, ids, CAMERA)] == [3]
    nothing = np.zeros_like(ids)
    assert list(look_again(network, image, nothing, CAMERA)) == []


def test_many_objects_are_looked_at_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relief, "AT_ONCE", 2)
    ids = np.zeros((HEIGHT, WIDTH), np.uint16)
    for number in range(5):
        ids[20:60, 30 * number : 30 * number + 20] = number + 1
    sizes: list[int] = []

    def flat(pictures: Tensor) -> Prediction:
        sizes.append(len(pictures))
        return said(torch.zeros(len(pictures), SIDE // STRIDE, SIDE // STRIDE))

    seen: Callable[[Tensor], Prediction] = flat
    made = list(look_again(Scripted(seen=seen), np.zeros((HEIGHT, WIDTH, 3), np.uint8), ids, CAMERA))
    assert [number for number, _ in made] == [1, 2, 3, 4, 5]
    assert sizes == [2, 2, 2, 2, 1, 1]
    for number, each in made:
        assert len(each.log_depth) == np.count_nonzero(ids == number)
        assert abs(float(each.log_depth.mean())) < 1e-5
