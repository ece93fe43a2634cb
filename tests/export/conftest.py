"""A small scene of known geometry, as the exporters take it."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from scenegen.export.parts import Part, PartScene
from scenegen.geometry.mesh import TexturedMesh
from scenegen.records import Intrinsics

OFF_CENTRE = Intrinsics(width=640, height=426, fx=500.0, fy=520.0, cx=330.5, cy=200.25)


def textured(solid: trimesh.Trimesh, side: int, seed: int) -> TexturedMesh:
    """`solid` with random tiles on it, standing on y = 0."""
    vertices = solid.vertices - [0, solid.bounds[0][1], 0]
    span = np.ptp(vertices, axis=0)
    tiles = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    texture = tiles.repeat(side // 4, axis=0).repeat(side // 4, axis=1)  # smaller as PNG, so that nothing is lost
    return TexturedMesh(
        vertices=vertices.astype(np.float32),
        faces=np.asarray(solid.faces, dtype=np.int32),
        uv=((vertices - vertices.min(axis=0)) / np.where(span > 0, span, 1))[:, :2].astype(np.float32),
        base_color=texture,
        metallic=0.1,
        roughness=0.6,
    )


def placement(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.random(rng=generator).as_matrix()
    matrix[:3, 3] = generator.uniform((-1, 0.5, -1), (1, 2.5, 1))  # above the floor
    return matrix


@pytest.fixture
def part_scene() -> PartScene:
    """Three objects with odd labels, a floor and a backdrop, before a camera off its picture's middle."""
    solids = {
        "obj_01_box": (trimesh.creation.box((0.4, 0.6, 0.2)), "box"),
        "obj_02": (trimesh.creation.icosphere(subdivisions=3, radius=0.3), ""),
        "obj_03_tasse": (trimesh.creation.cylinder(radius=0.1, height=0.3, sections=48), 'Tasse/"чашка" <b>'),
    }
    objects = tuple(
        Part(
            name=name,
            label=label,
            mesh=textured(solid, 16, seed=index),
            world_from_part=placement(index),
            facts={"id": index, "backend": "inflate", "licence": "Apache-2.0", "seed": index, "score": 0.5},
        )
        for index, (name, (solid, label)) in enumerate(solids.items(), start=1)
    )
    floor = trimesh.Trimesh([[-2, 0, -4], [2, 0, -4], [2, 0, 0], [-2, 0, 0]], [[0, 2, 1], [0, 3, 2]])
    backdrop = trimesh.Trimesh([[-2, 0, -4], [2, 0, -4], [2, 3, -4], [-2, 3, -4]], [[0, 1, 2], [0, 2, 3]])
    world_from_camera = np.diag([1.0, -1.0, -1.0, 1.0])
    pitch = Rotation.from_euler("x", -20, degrees=True).as_matrix()
    world_from_camera[:3, :3] = pitch @ world_from_camera[:3, :3]
    world_from_camera[:3, 3] = [0.1, 1.2, 2.0]
    return PartScene(
        objects=objects,
        background=tuple(
            Part(name, name, textured(solid, side, seed=9), np.eye(4), {"kind": kind})
            for name, kind, solid, side in (("floor", "floor", floor, 16), ("backdrop", "wall", backdrop, 8))
        ),
        intrinsics=OFF_CENTRE,
        world_from_camera=world_from_camera,
        facts={"photo": "table", "decoded_photo_sha256": "0" * 64},
    )
