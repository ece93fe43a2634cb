"""The weights that are part of the package."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import as_file, files

import numpy as np
import pytest
from safetensors import safe_open

from scenegen.camera import rays
from scenegen.compute.runtime import Runtime
from scenegen.config import EmbeddedGeneratorConfig, TextureConfig
from scenegen.geometry.fill import outline_distance
from scenegen.geometry.generator import ObjectView
from scenegen.geometry.render import RayCaster
from scenegen.pixal3d.embedded import NAME, generate_embedded
from scenegen.scene.scoring import intersection_over_union
from scenegen.weights import generator_weights
from scenegen.weights_registry import digest_of
from tests.geometry.views import CENTRE, RADIUS, SIDE, sphere_depth, sphere_view

MEGABYTE = 1e6


def test_they_are_small_named_by_their_digest_and_described() -> None:
    folder = files("scenegen") / "weights"
    with as_file(folder / "generator.safetensors") as path:
        assert path.stat().st_size < 30 * MEGABYTE
        assert generator_weights() == {NAME: digest_of(path)}
        with safe_open(path, "pt") as file:
            assert float(file.metadata()["judged_loss"]) < 0.1
    card = (folder / "generator.md").read_text()
    assert all(word in card for word in ("CC BY 4.0", "Limits", "python -m scenegen.train generator"))


@pytest.mark.parametrize("occluded", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_ball_they_never_saw_gets_a_body_behind_what_is_seen(occluded: bool, seed: int) -> None:
    view = lit(sphere_view(occluded))
    made = generate_embedded(view, seed, EmbeddedGeneratorConfig(), TextureConfig(size=128), Runtime(device="cpu"))
    directions = rays(view.crop.intrinsics).reshape(-1, 3)
    caster = RayCaster(made.mesh.vertices, made.mesh.faces)
    front = caster.cast(np.zeros_like(directions), directions).distance.reshape(SIDE, SIDE)
    whole = sphere_depth(rays(view.crop.intrinsics)) > 0
    assert intersection_over_union(np.isfinite(front), whole) > (0.75 if occluded else 0.97)
    back = 4 - caster.cast(4 * directions, -directions).distance.reshape(SIDE, SIDE)
    inner = outline_distance(view.mask > 0.5) > 12
    assert np.median((back - front)[inner]) > 0.8 * RADIUS


def lit(view: ObjectView) -> ObjectView:
    """With light from above on the left: in one flat colour, a ball looks like a disc, and depth alone does not outweigh that."""
    light = np.array([-0.4, -0.7, -0.6])
    normals = (rays(view.crop.intrinsics) * view.depth[..., None] - CENTRE) / RADIUS
    shade = 0.25 + 0.75 * np.clip(normals @ (light / np.linalg.norm(light)), 0, 1)
    image = np.where((view.mask > 0)[..., None], view.image * shade[..., None], view.image)
    return replace(view, image=image.astype(np.uint8))
