"""Training views: picture, mask, depth and limit are of one scene, which the truth explains."""

from __future__ import annotations

import numpy as np
import pytest

from scenegen.camera import rays, transform
from scenegen.geometry.render import RayCaster
from scenegen.scene.scoring import intersection_over_union
from scenegen.train.meshes import MeshFolder, mesh_folder
from scenegen.train.views import View, view
from tests.train.folders import small_folder

SIZE = 64


@pytest.fixture(scope="module")
def meshes(tmp_path_factory: pytest.TempPathFactory) -> MeshFolder:
    return mesh_folder(small_folder(tmp_path_factory.mktemp("meshes")))


def true_depth(meshes: MeshFolder, seen: View) -> np.ndarray:
    """z-depth of the object alone through the crop camera."""
    mesh = meshes[seen.mesh]
    directions = rays(seen.view.crop.intrinsics).reshape(-1, 3)
    caster = RayCaster(transform(seen.crop_from_mesh, mesh.vertices.astype(float)), mesh.faces)
    return caster.cast(np.zeros_like(directions), directions).distance.reshape(SIZE, SIZE)


@pytest.mark.parametrize("seed", range(8))
def test_the_object_lies_where_mask_and_depth_say(meshes: MeshFolder, seed: int) -> None:
    seen = view(meshes, seed, SIZE)
    alone = true_depth(meshes, seen)
    mask = seen.view.mask > 0.5
    assert mask.sum() > 50
    assert np.isfinite(alone[seen.view.mask == 1]).all()
    whole = np.isfinite(alone)
    if seen.visible > 0.999:
        assert intersection_over_union(mask, whole) > 0.95
    else:
        assert mask.sum() < 1.02 * whole.sum()
    inner = mask & whole & (seen.view.mask == 1)
    np.testing.assert_allclose(seen.view.depth[inner], alone[inner], rtol=1e-4)
    behind = inner & (seen.view.limit > 0)
    assert (seen.view.limit[behind] > 0.99 * seen.view.depth[behind]).all()
    assert seen.view.image[inner].any()
    assert np.linalg.norm(seen.view.up) == pytest.approx(1, abs=1e-5)


def test_views_repeat_and_differ(meshes: MeshFolder) -> None:
    first, again, other = view(meshes, 3, SIZE), view(meshes, 3, SIZE), view(meshes, 4, SIZE)
    np.testing.assert_array_equal(first.view.image, again.view.image)
    np.testing.assert_array_equal(first.crop_from_mesh, again.crop_from_mesh)
    assert (first.view.image != other.view.image).any()


def test_some_views_are_occluded_and_cameras_vary(meshes: MeshFolder) -> None:
    views = [view(meshes, seed, 24) for seed in range(40)]
    assert any(item.visible < 0.9 for item in views)
    assert any(item.visible > 0.999 for item in views)
    elevations = np.array([np.degrees(np.arcsin(np.clip(-item.view.up[2], -1, 1))) for item in views])
    assert np.ptp(elevations) > 30
