"""`generate: embedded`, from a view to a textured mesh, with the weights of an untrained network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from scenegen.camera import rays
from scenegen.compute.runtime import Runtime
from scenegen.config import EmbeddedGeneratorConfig, TextureConfig
from scenegen.errors import WeightsError
from scenegen.geometry.field import Field, cell_centres, cube_edge
from scenegen.geometry.fill import outline_distance
from scenegen.geometry.generator import MadeObject, ObjectView
from scenegen.geometry.render import RayCaster
from scenegen.geometry.solid import is_closed
from scenegen.perception.trunk import Trunk
from scenegen.pixal3d import embedded
from scenegen.pixal3d.compact import CompactGenerator, CompactSettings
from scenegen.pixal3d.embedded import ImageTrunk, generate_embedded, generated, load_generator, mirrored, smoothed
from scenegen.scene.scoring import intersection_over_union
from scenegen.weights.file import write_weights
from tests.geometry.views import SIDE, sphere_view, turned_view

SETTINGS = CompactSettings(model_channels=32, num_blocks=1, num_heads=2, cond_channels=16, lifted_channels=32)
CONFIG = EmbeddedGeneratorConfig(steps=2, resolution=56)


@pytest.fixture(scope="module")
def untrained() -> CompactGenerator:
    torch.manual_seed(0)
    generator = CompactGenerator(ImageTrunk(Trunk()), SETTINGS)
    torch.nn.init.normal_(generator.flow.out_layer.weight, std=0.01)
    return generator.eval()


def made(generator: CompactGenerator, view: ObjectView, seed: int, monkeypatch: pytest.MonkeyPatch) -> MadeObject:
    monkeypatch.setattr(embedded, "_generator", lambda device: generator)
    return generate_embedded(view, seed, CONFIG, TextureConfig(size=128), Runtime(device="cpu"))


def test_the_object_lies_on_its_pixels(untrained: CompactGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    view = sphere_view()
    result = made(untrained, view, 0, monkeypatch)
    assert (result.backend, result.seed, result.warnings) == (embedded.NAME, 0, ())
    assert "Apache-2.0" in result.licence
    vertices, faces = result.mesh.vertices, result.mesh.faces
    _, welded = np.unique(vertices, axis=0, return_inverse=True)
    assert is_closed(welded.ravel()[faces].astype(np.int32))
    assert len(faces) <= CONFIG.max_faces
    directions = rays(view.crop.intrinsics).reshape(-1, 3)
    hits = RayCaster(vertices, faces).cast(np.zeros_like(directions), directions)
    seen = (hits.triangle >= 0).reshape(SIDE, SIDE)
    assert intersection_over_union(seen, view.mask > 0.5) > 0.95
    inner = outline_distance(view.mask > 0.5) > 8
    assert np.abs(hits.distance.reshape(SIDE, SIDE)[inner] - view.depth[inner]).mean() < 0.02


def test_seeds_differ_behind_and_agree_in_front(untrained: CompactGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    view = sphere_view()
    first, again, other = (made(untrained, view, seed, monkeypatch).mesh for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.vertices, again.vertices)
    np.testing.assert_array_equal(first.base_color, again.base_color)
    directions = rays(view.crop.intrinsics).reshape(-1, 3)[(outline_distance(view.mask > 0.5) > 8).ravel()]
    front = [
        RayCaster(mesh.vertices, mesh.faces).cast(np.zeros_like(directions), directions) for mesh in (first, other)
    ]
    back = [RayCaster(mesh.vertices, mesh.faces).cast(10 * directions, -directions).distance for mesh in (first, other)]
    assert np.abs(front[0].distance - front[1].distance).mean() < 0.01
    assert np.abs(back[0] - back[1]).max() > 0.01


def test_lumps_of_an_object_whose_depth_is_estimated_are_evened_and_it_keeps_its_volume() -> None:
    """A ball with noise on it, and a rod that a blur alone would take away."""
    points = cell_centres(32)
    ball = np.linalg.norm(points, axis=-1) - 0.3
    lumps = np.kron(np.random.default_rng(0).normal(0, 0.03, (16, 16, 16)), np.ones((2, 2, 2)))
    even = smoothed(Field((ball + lumps).astype(np.float32)), True).values
    rough = smoothed(Field((ball + lumps).astype(np.float32)), False).values
    near = np.abs(ball) < 0.1
    assert np.std((even - ball)[near]) < 0.6 * np.std((rough - ball)[near])
    assert np.count_nonzero(rough < 0) < np.count_nonzero(even < 0) < 1.12 * np.count_nonzero(rough < 0)
    rod = np.linalg.norm(points[..., :2], axis=-1) - 0.03
    assert (smoothed(Field(rod.astype(np.float32)), True).values[15:17, 15:17] < 0).all()


@pytest.mark.parametrize("several", [False, True])
def test_a_mirror_image_gives_the_mirror_image(untrained: CompactGenerator, several: bool) -> None:
    view = sphere_view(occluded=True)
    if several:
        view = replace(view, others=(turned_view(50),))
    edge, sampler = cube_edge(view), replace(SETTINGS.sampler, steps=1)
    field, colours = generated(untrained, view, edge, 0, sampler)
    reflected, reflected_colours = generated(untrained, mirrored(view), edge, 0, sampler)
    assert np.abs(field.values - field.values[::-1]).max() > 0.01  # the object itself is not symmetric
    np.testing.assert_allclose(field.values, reflected.values[::-1], atol=1e-5)
    np.testing.assert_allclose(colours, reflected_colours[::-1], atol=1e-5)


def test_what_is_made_up_is_said(untrained: CompactGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    view = sphere_view(occluded=True)
    monkeypatch.setattr(embedded, "COMPLETED", -1.0)
    (warning,) = made(untrained, view, 0, monkeypatch).warnings
    assert "invented" in warning


def test_hidden_sides_have_the_generated_colour(untrained: CompactGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    view = sphere_view()
    view = replace(view, image=np.full_like(view.image, 0) + np.uint8([200, 40, 40]))
    result = made(untrained, view, 0, monkeypatch).mesh
    np.testing.assert_allclose(
        result.base_color.reshape(-1, result.base_color.shape[-1])[:, :3].mean(axis=0), [200, 40, 40], atol=15
    )


def test_weights_are_stored_in_half_precision_and_loaded_exactly(untrained: CompactGenerator, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    write_weights(untrained, SETTINGS, path, step="3")
    loaded = load_generator(path)
    assert loaded.settings == SETTINGS
    for name, value in loaded.state_dict().items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, untrained.state_dict()[name].half().float(), rtol=0, atol=0)
    state = load_file(path)
    assert {value.dtype for value in state.values()} == {torch.float16}
    state.pop("lift.0.bias")
    with safe_open(path, "pt") as file:
        save_file(state, path, file.metadata())
    with pytest.raises(WeightsError, match=r"missing: lift\.0\.bias"):
        load_generator(path)
    path.write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="install the package again"):
        load_generator(path)
    with pytest.raises(WeightsError, match="cannot be read"):
        load_generator(tmp_path / "absent.safetensors")
