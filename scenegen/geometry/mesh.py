"""The textured triangle mesh every generator returns and every exporter takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int32, UInt8


@dataclass(frozen=True)
class TexturedMesh:
    """Triangles with one UV atlas. Counter-clockwise seen from outside (right-handed frame)."""

    vertices: Float32[np.ndarray, "v 3"]
    faces: Int32[np.ndarray, "f 3"]
    uv: Float32[np.ndarray, "v 2"]
    """glTF convention: (0, 0) is the picture's top left corner."""
    base_color: UInt8[np.ndarray, "h w 3"]
    """sRGB."""
    metallic: float = 0.0
    roughness: float = 0.8

    def transformed(self, matrix: Float[np.ndarray, "4 4"]) -> TexturedMesh:
        """The mesh under an affine map; faces are turned around where the map mirrors."""
        vertices = (self.vertices @ matrix[:3, :3].T + matrix[:3, 3]).astype(np.float32)
        mirrored = np.linalg.det(matrix[:3, :3]) < 0
        return replace(self, vertices=vertices, faces=self.faces[:, ::-1].copy() if mirrored else self.faces)


def save_mesh(mesh: TexturedMesh, path: Path) -> None:
    """Writes the mesh as npz (the same mesh gives the same bytes)."""
    np.savez(
        path,
        allow_pickle=False,
        vertices=mesh.vertices,
        faces=mesh.faces,
        uv=mesh.uv,
        base_color=mesh.base_color,
        material=np.array([mesh.metallic, mesh.roughness]),
    )


def load_mesh(path: Path) -> TexturedMesh:
    """Reads what `save_mesh` wrote."""
    with np.load(path, allow_pickle=False) as data:
        metallic, roughness = (float(value) for value in data["material"])
        return TexturedMesh(
            data["vertices"], data["faces"], data["uv"], data["base_color"], metallic=metallic, roughness=roughness
        )


def vertex_normals(vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"]) -> Float32[np.ndarray, "v 3"]:
    """Unit normals, area-weighted over the faces that meet at a position (vertices split by UV seams count as one)."""
    corners = vertices[faces].astype(np.float64)
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    _, welded = np.unique(vertices, axis=0, return_inverse=True)
    sums = np.zeros((int(welded.max(initial=-1)) + 1, 3))
    for corner in range(3):
        np.add.at(sums, welded[faces[:, corner]], face_normals)
    length = np.linalg.norm(sums, axis=1, keepdims=True)
    sums = np.where(length > 1e-20, sums / np.maximum(length, 1e-20), [0.0, 0.0, 1.0])
    normals = sums[welded].astype(np.float32)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)
