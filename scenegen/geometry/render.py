"""Pictures of textured meshes by ray casting (Embree): what the scorer, the report and the tests look through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh
from jaxtyping import Float, Float32, Int32, UInt8

from scenegen.camera import rays
from scenegen.geometry.mesh import TexturedMesh
from scenegen.records import Intrinsics


@dataclass(frozen=True)
class Hits:
    """The first triangle each ray meets."""

    distance: Float32[np.ndarray, "n"]
    """In units of the ray's direction vector; infinite where nothing is hit."""
    triangle: Int32[np.ndarray, "n"]
    """-1 where nothing is hit."""
    barycentric: Float32[np.ndarray, "n 3"]


@dataclass(frozen=True)
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
        self._scene = rtcore_scene.EmbreeScene()
        self._mesh = TriangleMesh(self._scene, np.ascontiguousarray(vertices[faces], dtype=np.float32))

    def cast(self, origins: Float[np.ndarray, "n 3"], directions: Float[np.ndarray, "n 3"]) -> Hits:
        """First hits of the rays origin + t direction, t > 0."""
        length = np.linalg.norm(directions, axis=1)
        found = self._scene.run(
            np.ascontiguousarray(origins, dtype=np.float32),
            np.ascontiguousarray(directions / length[:, None], dtype=np.float32),
            query="INTERSECT",
            output=True,
        )
        missed = found["primID"] == -1
        distance = np.where(missed, np.inf, found["tfar"] / length).astype(np.float32)
        second, third = found["u"].astype(np.float32), found["v"].astype(np.float32)
        barycentric = np.stack([1 - second - third, second, third], axis=1)
        return Hits(distance, found["primID"].astype(np.int32), barycentric)


def render(meshes: Sequence[TexturedMesh], camera: Intrinsics, background: int = 255) -> Picture:
    """The meshes (in the camera's frame) as `camera` sees them: unlit base colours, two-sided, bilinear texels.

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
        starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
        vertices = np.concatenate([mesh.vertices for mesh in meshes])
        faces = np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)])
        owners = np.repeat(np.arange(len(meshes)), [len(mesh.faces) for mesh in meshes])
        directions = rays(camera).reshape(-1, 3)
        hits = RayCaster(vertices, faces.astype(np.int32)).cast(np.zeros_like(directions), directions)
        hit = hits.triangle >= 0
        ids[hit] = owners[hits.triangle[hit]]
        depth[hit] = hits.distance[hit]  # directions have z = 1
        uv = np.concatenate([mesh.uv for mesh in meshes])
        at = np.einsum("nc,ncd->nd", hits.barycentric[hit], uv[faces[hits.triangle[hit]]])
        shades = np.zeros((len(at), 3), dtype=np.uint8)
        for index, mesh in enumerate(meshes):
            mine = ids[hit] == index
            shades[mine] = sample_texture(mesh.base_color, at[mine])
        color[hit] = shades
    return Picture(ids.reshape(height, width), depth.reshape(height, width), color.reshape(height, width, 3))


def sample_texture(texture: UInt8[np.ndarray, "h w 3"], uv: Float[np.ndarray, "n 2"]) -> UInt8[np.ndarray, "n 3"]:
    """Texels of `texture` at `uv` (glTF convention), bilinear, clamped at the edges."""
    height, width = texture.shape[:2]
    x = np.clip(uv[:, 0] * width - 0.5, 0, width - 1)
    y = np.clip(uv[:, 1] * height - 0.5, 0, height - 1)
    x0, y0 = x.astype(int), y.astype(int)
    x1, y1 = np.minimum(x0 + 1, width - 1), np.minimum(y0 + 1, height - 1)
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]
    top = texture[y0, x0] * (1 - fx) + texture[y0, x1] * fx
    bottom = texture[y1, x0] * (1 - fx) + texture[y1, x1] * fx
    return np.round(top * (1 - fy) + bottom * fy).astype(np.uint8)
