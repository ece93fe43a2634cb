"""Pictures of textured meshes by ray casting (Embree): what the scorer, the report and the tests look through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from embreex import rtcore, rtcore_scene
from embreex.mesh_construction import TriangleMesh
from jaxtyping import Bool, Float, Float32, Int32, UInt8

from scenegen.camera import rays
from scenegen.geometry.mesh import ALPHA_CUTOFF, TexturedMesh, alpha_mode, joined
from scenegen.records import Intrinsics

LAYERS = 16
"""Surfaces with holes that a ray is followed through; behind them nothing is seen."""

BEYOND = 1e-4
"""How far behind a hole a ray goes on, as a share of its distance: past the surface that has the hole."""


@dataclass(frozen=True, eq=False)
class Hits:
    """The first triangle each ray meets."""

    distance: Float32[np.ndarray, "n"]
    """In units of the ray's direction vector; infinite where nothing is hit."""
    triangle: Int32[np.ndarray, "n"]
    """-1 where nothing is hit."""
    barycentric: Float32[np.ndarray, "n 3"]


@dataclass(frozen=True, eq=False)
class Picture:
    """A rendered view."""

    ids: Int32[np.ndarray, "h w"]
    """Index of the mesh each pixel shows, -1 for none."""
    depth: Float32[np.ndarray, "h w"]
    """z-depth, 0 where nothing is hit."""
    color: UInt8[np.ndarray, "h w 3"]
    """sRGB, unlit."""


class RayCaster:
    """A triangle soup prepared for ray queries."""

    def __init__(self, vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"]) -> None:
        self._scene = rtcore_scene.EmbreeScene(_device())
        self._mesh = TriangleMesh(self._scene, np.ascontiguousarray(vertices[faces], dtype=np.float32))

    def cast(self, origins: Float[np.ndarray, "n 3"], directions: Float[np.ndarray, "n 3"]) -> Hits:
        """First hits of the rays origin + t direction, t > 0."""
        length = np.linalg.norm(directions, axis=1)
        found = self._run(origins, directions / length[:, None], query="INTERSECT", output=True)
        missed = found["primID"] == -1
        distance = np.where(missed, np.inf, found["tfar"] / length).astype(np.float32)
        second, third = found["u"].astype(np.float32), found["v"].astype(np.float32)
        barycentric = np.stack([1 - second - third, second, third], axis=1)
        return Hits(distance, found["primID"].astype(np.int32), barycentric)

    def first(self, origins: Float[np.ndarray, "n 3"], directions: Float[np.ndarray, "n 3"]) -> Int32[np.ndarray, "n"]:
        """As `cast`, but says only which triangle each ray meets, -1 for none. Faster."""
        return np.asarray(self._run(origins, directions, query="INTERSECT"), dtype=np.int32)

    def blocked(self, origins: Float[np.ndarray, "n 3"], directions: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, "n"]:
        """Whether the rays origin + t direction, t > 0, meet any triangle. Faster than `cast`."""
        return np.asarray(self._run(origins, directions, query="OCCLUDED") != -1)

    def _run(self, origins: Float[np.ndarray, "n 3"], directions: Float[np.ndarray, "n 3"], **query: object) -> Any:
        return self._scene.run(
            np.ascontiguousarray(origins, dtype=np.float32), np.ascontiguousarray(directions, dtype=np.float32), **query
        )


@cache
def _device() -> rtcore.EmbreeDevice:
    """The one Embree device of this process: about a thousand at once end it with a segmentation fault."""
    return rtcore.EmbreeDevice()


def render(meshes: Sequence[TexturedMesh], camera: Intrinsics, background: int = 255) -> Picture:
    """The meshes (in the camera's frame) as `camera` sees them: unlit base colours, two-sided, bilinear texels.

    Rays pass through what a texture cuts out (`alpha_mode` is `MASK`). A blended surface is drawn as a solid one: it
    belongs to the object's silhouette.

    Args:
        meshes: any number, also none.
        camera: whose picture it is.
        background: grey level where no mesh is hit.
    """
    height, width = camera.height, camera.width
    ids = np.full(height * width, -1, dtype=np.int32)
    depth = np.zeros(height * width, dtype=np.float32)
    color = np.full((height * width, 3), background, dtype=np.uint8)
    if any(len(mesh.faces) for mesh in meshes):
        vertices, faces = joined([mesh.vertices for mesh in meshes], [mesh.faces for mesh in meshes])
        owners = np.repeat(np.arange(len(meshes), dtype=np.int32), [len(mesh.faces) for mesh in meshes])
        directions = rays(camera).reshape(-1, 3)
        uv = np.concatenate([mesh.uv for mesh in meshes])
        caster = RayCaster(vertices, faces)
        cut_out = [alpha_mode(mesh.base_color) == "MASK" for mesh in meshes]
        under_way, start = np.arange(len(directions)), np.zeros(len(directions), dtype=np.float32)
        for _ in range(LAYERS):
            ahead = directions.take(under_way, axis=0)
            hits = caster.cast(ahead * start[:, None], ahead)
            hit = np.flatnonzero(hits.triangle >= 0)
            under_way, triangle = under_way[hit], hits.triangle[hit]
            distance = start[hit] + hits.distance[hit]  # directions have z = 1
            corners = faces.take(triangle, axis=0).ravel()
            at = np.einsum("nc,ncd->nd", hits.barycentric.take(hit, axis=0), uv.take(corners, axis=0).reshape(-1, 3, 2))
            there = np.ones(len(at), dtype=bool)
            owner = owners[triangle]
            for index, mesh in enumerate(meshes):
                mine = np.flatnonzero(owner == index)
                texels = sample_texture(mesh.base_color, at.take(mine, axis=0))
                color[under_way[mine]] = texels[:, :3]
                if cut_out[index]:
                    there[mine] = texels[:, 3] >= 255 * ALPHA_CUTOFF
            shown = under_way[there]
            ids[shown], depth[shown] = owner[there], distance[there]
            under_way, start = under_way[~there], distance[~there] * np.float32(1 + BEYOND)
            if under_way.size == 0:
                break
        color[ids < 0] = background
    return Picture(ids.reshape(height, width), depth.reshape(height, width), color.reshape(height, width, 3))


def sample_texture(texture: UInt8[np.ndarray, "h w c"], uv: Float[np.ndarray, "n 2"]) -> UInt8[np.ndarray, "n c"]:
    """Texels of `texture` at `uv` (glTF convention), bilinear, clamped at the edges."""
    height, width = texture.shape[:2]
    x = np.clip(uv[:, 0] * width - 0.5, 0, width - 1)
    y = np.clip(uv[:, 1] * height - 0.5, 0, height - 1)
    x0, y0 = x.astype(int), y.astype(int)
    right, below = np.minimum(x0 + 1, width - 1) - x0, (np.minimum(y0 + 1, height - 1) - y0) * width
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]
    texels, at = texture.reshape(height * width, -1), y0 * width + x0
    # `take` is four times as fast as an index.
    top = texels.take(at, axis=0) * (1 - fx) + texels.take(at + right, axis=0) * fx
    bottom = texels.take(at + below, axis=0) * (1 - fx) + texels.take(at + below + right, axis=0) * fx
    return np.round(top * (1 - fy) + bottom * fy).astype(np.uint8)
