"""A mesh that is shown to the search from any side is put back where it was."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from scenegen.camera import crop_camera, intrinsics_from_fov, warp_depth_to_crop, warp_to_crop
from scenegen.config import InflateConfig, ObjectSettings, TextureConfig
from scenegen.geometry.generator import ObjectView
from scenegen.geometry.mesh import TexturedMesh
from scenegen.geometry.posed import Posed, posed
from scenegen.geometry.render import render
from stages.generate import given_object

CAMERA = intrinsics_from_fov(320, 240, 50)
SIZE = 0.4
"""Of the object in metres."""


def jug() -> TexturedMesh:
    """A body with a handle and a lid, every face with a colour by its side."""
    body = trimesh.creation.cylinder(0.5, 1.2, sections=24)
    handle = trimesh.creation.box((0.5, 0.15, 0.7), trimesh.transformations.translation_matrix((0.6, 0, 0.1)))
    spout = trimesh.creation.box((0.2, 0.5, 0.2), trimesh.transformations.translation_matrix((0, 0.55, 0.4)))
    whole = trimesh.util.concatenate([body, handle, spout])
    corners = whole.vertices[whole.faces] @ Rotation.from_euler("x", -90, degrees=True).as_matrix().T
    count = len(corners)
    side = int(np.ceil(np.sqrt(count)))
    texture = np.zeros((side * side, 3), np.uint8)
    texture[:count] = np.clip(128 + 120 * corners.mean(axis=1), 0, 255)
    texel = np.arange(count)
    centres = (np.stack([texel % side, texel // side], axis=1) + 0.5) / side
    return TexturedMesh(
        corners.reshape(-1, 3).astype(np.float32),
        np.arange(3 * count, dtype=np.int32).reshape(-1, 3),
        np.repeat(centres, 3, axis=0).astype(np.float32),
        texture.reshape(side, side, 3),
    )


def seen(mesh: TexturedMesh, yaw: float, pitch: float) -> tuple[ObjectView, np.ndarray]:
    """What the photo shows of a mesh, and the mesh's vertices in the crop camera's frame."""
    turn = (
        Rotation.from_euler("x", 180 + pitch, degrees=True) * Rotation.from_euler("y", yaw, degrees=True)
    ).as_matrix()
    scale = SIZE / np.linalg.norm(np.ptp(mesh.vertices, axis=0))
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = scale * turn, (0.08, -0.05, 1.2)
    there = mesh.transformed(matrix)
    picture = render([there], CAMERA)
    mask = picture.ids >= 0
    crop = crop_camera(CAMERA, mask, 200)
    turned = np.array(crop.crop_from_camera)
    view = ObjectView(
        image=warp_to_crop(picture.color, CAMERA, crop),
        mask=warp_to_crop(mask.astype(np.float32), CAMERA, crop),
        depth=warp_depth_to_crop(picture.depth, CAMERA, crop),
        limit=np.zeros((200, 200), np.float32),
        up=(turned @ turn @ [0, 1, 0]).astype(np.float32),
        crop=crop,
    )
    return view, there.vertices @ turned.T


@pytest.mark.parametrize(("yaw", "pitch"), [(20, 15), (160, 30), (275, 5)])
def test_a_mesh_comes_back_to_its_place(yaw: float, pitch: float) -> None:
    mesh = jug()
    view, true = seen(mesh, yaw, pitch)
    found = posed(mesh, view)
    assert found.silhouette_iou > 0.95
    scale = np.median(np.linalg.norm(true, axis=1)) / np.median(np.linalg.norm(found.mesh.vertices, axis=1))
    assert np.linalg.norm(true - scale * found.mesh.vertices, axis=1).mean() < 0.02 * SIZE


def test_a_mesh_that_hardly_covers_its_mask_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    view, _ = seen(jug(), 20, 15)
    settings = ObjectSettings(generate=InflateConfig(), texture=TextureConfig(), seed=3)
    for iou, warned in ((0.9, 0), (0.5, 1)):
        monkeypatch.setattr("stages.generate.posed", lambda mesh, view, iou=iou: Posed(mesh, iou))
        made = given_object(jug(), view, settings)
        assert (made.backend, made.seed, len(made.warnings)) == ("user mesh", 3, warned)
        np.testing.assert_array_equal(made.mesh.base_color, jug().base_color)
