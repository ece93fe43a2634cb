"""The textured triangle mesh that every generator returns and every exporter takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, Integer, UInt8

from scenegen.geometry.solid import is_closed, welded

FLATNESS = 1e-7
"""Height of a triangle over its longest edge below which float32 vertices cannot tell its side."""

FEWEST_FACES = 4
"""Of a solid: a tetrahedron's."""

UV_TOLERANCE = 1e-4

AlphaMode = Literal["OPAQUE", "MASK", "BLEND"]

ALPHA_CUTOFF = 0.5
"""Alpha from which on a texel of a `MASK` texture is there at all."""

SOLID, CLEAR = 230, 25
"""Alpha that reads as there and as not there: a tenth from either end. Predicted alpha seldom meets the ends."""

STRAY_SHARE = 0.01
"""Of the texels: what may lie off without counting. It is a square of a tenth of the texture's side."""

EDGE_SHARE = 0.25
"""Of the texels that are not solid: what may lie between the ends in a two-valued texture. The edge of a hole is a texel
or two wide, so that a hole 16 texels across has a quarter of its texels there, and a larger one fewer."""


@dataclass(frozen=True, eq=False)
class TexturedMesh:
    """Triangles with one UV atlas. Counter-clockwise seen from outside (right-handed frame)."""

    vertices: Float32[np.ndarray, "v 3"]
    faces: Int32[np.ndarray, "f 3"]
    uv: Float32[np.ndarray, "v 2"]
    """glTF convention: (0, 0) is the picture's top left corner."""
    base_color: UInt8[np.ndarray, "h w c"]
    """sRGB, 3 channels; or 4, the last of which is alpha (linear), see `alpha_mode`."""
    metallic: float = 0.0
    roughness: float = 0.8
    metallic_roughness: UInt8[np.ndarray, "k l 3"] | None = None
    """glTF's packing, linear: R is unused and 0, G roughness, B metallic. If given, it replaces the two numbers."""

    def transformed(self, matrix: Float[np.ndarray, "4 4"]) -> TexturedMesh:
        """The mesh under an affine map; faces are inverted if the map mirrors.

        Examples:
            >>> mesh = load_mesh(Path("mesh.npz"))
            >>> float(np.ptp(mesh.transformed(np.diag([2.0, 2.0, 2.0, 1.0])).vertices[:, 0]) / np.ptp(mesh.vertices[:, 0]))
            2.0
        """
        # Written out, because a matrix product may round copies of one vertex differently, which opens seams.
        x, y, z = (self.vertices[:, axis, None].astype(np.float64) for axis in range(3))
        turned = x * matrix[:3, 0] + y * matrix[:3, 1] + z * matrix[:3, 2]
        vertices = (turned + matrix[:3, 3]).astype(np.float32)
        mirrored = np.linalg.det(matrix[:3, :3]) < 0
        return replace(self, vertices=vertices, faces=self.faces[:, ::-1].copy() if mirrored else self.faces)


def check_mesh(mesh: TexturedMesh) -> None:
    """Checks that the mesh can be rendered and exported.

    Raises:
        ValueError: if something is wrong; the message names it.

    Examples:
        >>> check_mesh(load_mesh(Path("mesh.npz")))
    """
    count = len(mesh.vertices)
    if not (np.isfinite(mesh.vertices).all() and np.isfinite(mesh.uv).all()):
        raise ValueError("the mesh has vertices or texture coordinates that are not finite numbers")
    if not (0 <= mesh.metallic <= 1 and 0 <= mesh.roughness <= 1):
        raise ValueError(f"metallic {mesh.metallic} and roughness {mesh.roughness} must lie in 0..1")
    if len(mesh.uv) != count or mesh.base_color.size == 0:
        raise ValueError("the mesh needs one texture coordinate per vertex and a texture")
    if mesh.base_color.shape[2] not in (3, 4):
        raise ValueError(f"`base_color` has {mesh.base_color.shape[2]} channels; it must have 3, or 4 with alpha")
    if mesh.metallic_roughness is not None and mesh.metallic_roughness.size == 0:
        raise ValueError("`metallic_roughness` has no texels; leave it out, or give it some")
    if len(mesh.faces) and not 0 <= mesh.faces.min() <= mesh.faces.max() < count:
        raise ValueError("the mesh has faces that refer to vertices it does not have")
    if not has_area(mesh).any():
        raise ValueError("the mesh has no triangle with an area")


def check_object(mesh: TexturedMesh) -> None:
    """Checks that the mesh can be an object of a scene: `check_mesh`, enough faces for a solid, and UVs in the atlas.

    Raises:
        ValueError: if something is wrong; the message names it.

    Examples:
        >>> check_object(load_mesh(Path("mesh.npz")))
    """
    check_mesh(mesh)
    faces = int(np.count_nonzero(has_area(mesh)))
    if faces < FEWEST_FACES:
        raise ValueError(f"the mesh has {faces} triangles with an area; a solid has at least {FEWEST_FACES}")
    low, high = float(mesh.uv.min()), float(mesh.uv.max())
    if low < -UV_TOLERANCE or high > 1 + UV_TOLERANCE:
        raise ValueError(f"the mesh has texture coordinates from {low:g} to {high:g}; they must lie in 0..1")


def has_area(mesh: TexturedMesh) -> Bool[np.ndarray, "f"]:
    """Which faces are triangles with a side that float32 vertices can tell.

    Examples:
        >>> has_area(load_mesh(Path("mesh.npz"))).all().item()
        True
    """
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    edges = np.roll(corners, -1, axis=1) - corners
    doubled_area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=-1)
    return np.asarray(doubled_area > FLATNESS * (edges**2).sum(axis=-1).max(axis=-1, initial=0.0))


def is_watertight(mesh: TexturedMesh) -> bool:
    """Whether the surface has no boundary; vertices split by UV seams count as one.

    Examples:
        >>> is_watertight(load_mesh(Path("mesh.npz")))
        True
    """
    _, place = welded(mesh.vertices)
    return is_closed(place[mesh.faces])


def alpha_mode(base_color: UInt8[np.ndarray, "h w c"]) -> AlphaMode:
    """How a renderer should take the alpha of a texture (glTF 2.0, section 3.9.4), told by its texels.

    `OPAQUE` without alpha, or if at most `STRAY_SHARE` of the texels are not solid: a few stray ones must not make an
    object transparent, because a transparent one is sorted as a whole and shows its far side through its near one.
    `MASK` if alpha has practically two values, both of them present: at most `EDGE_SHARE` of the texels that are not
    solid lie between. Otherwise `BLEND`; also if nothing is solid, because a mask would leave nothing.

    All texels count, those that no face covers too: atlases are filled beyond their charts with the nearest colours, so
    that the shares are close to those on the surface.

    Examples:
        >>> alpha_mode(np.full((8, 8, 4), 255, dtype=np.uint8))
        'OPAQUE'
        >>> alpha_mode(np.full((8, 8, 4), 128, dtype=np.uint8))
        'BLEND'
    """
    if base_color.shape[2] == 3:
        return "OPAQUE"
    alpha = base_color[..., 3]
    solid, clear = np.count_nonzero(alpha >= SOLID), np.count_nonzero(alpha <= CLEAR)
    rest = alpha.size - solid
    if rest <= STRAY_SHARE * alpha.size:
        return "OPAQUE"
    two_valued = solid > STRAY_SHARE * alpha.size and rest - clear <= EDGE_SHARE * rest
    return "MASK" if two_valued else "BLEND"


def save_mesh(mesh: TexturedMesh, path: Path) -> None:
    """Writes the mesh as npz (the same mesh gives the same bytes).

    Examples:
        >>> mesh = load_mesh(Path("mesh.npz"))
        >>> save_mesh(mesh.transformed(np.diag([2.0, 2.0, 2.0, 1.0])), Path("larger.npz"))
    """
    packed = {} if mesh.metallic_roughness is None else {"metallic_roughness": mesh.metallic_roughness}
    np.savez(
        path,
        allow_pickle=False,
        vertices=mesh.vertices,
        faces=mesh.faces,
        uv=mesh.uv,
        base_color=mesh.base_color,
        material=np.array([mesh.metallic, mesh.roughness]),
        **packed,
    )


def load_mesh(path: Path) -> TexturedMesh:
    """Reads what `save_mesh` wrote.

    Examples:
        >>> load_mesh(Path("mesh.npz")).faces.shape
        (12, 3)
    """
    with np.load(path, allow_pickle=False) as data:
        metallic, roughness = (float(value) for value in data["material"])
        return TexturedMesh(
            vertices=data["vertices"],
            faces=data["faces"],
            uv=data["uv"],
            base_color=data["base_color"],
            metallic=metallic,
            roughness=roughness,
            metallic_roughness=data.get("metallic_roughness"),
        )


def joined(
    vertices: Sequence[Float[np.ndarray, "_v 3"]], faces: Sequence[Integer[np.ndarray, "_f 3"]]
) -> tuple[Float[np.ndarray, "v 3"], Int32[np.ndarray, "f 3"]]:
    """Several meshes, at least one, as the vertices and faces of a single one.

    Examples:
        >>> triangle, corners = np.eye(3), np.array([[0, 1, 2]])
        >>> joined([triangle, triangle], [corners, corners])[1].tolist()
        [[0, 1, 2], [3, 4, 5]]
    """
    starts = np.cumsum([0, *(len(part) for part in vertices[:-1])])
    shifted = [part + start for part, start in zip(faces, starts, strict=True)]
    return np.concatenate(vertices), np.concatenate(shifted).astype(np.int32)


def vertex_normals(vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"]) -> Float32[np.ndarray, "v 3"]:
    """Unit normals, area-weighted over the faces that meet at a position (vertices split by UV seams count as one).

    Examples:
        >>> corners = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
        >>> vertex_normals(corners, np.array([[0, 1, 2]], dtype=np.int32))[0].tolist()
        [0.0, 0.0, 1.0]
    """
    corners = vertices[faces].astype(np.float64)
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    points, place = welded(vertices)
    sums = np.zeros((len(points), 3))
    for corner in range(3):
        np.add.at(sums, place[faces[:, corner]], face_normals)
    length = np.linalg.norm(sums, axis=1, keepdims=True)
    sums = np.where(length > 1e-20, sums / np.maximum(length, 1e-20), [0.0, 0.0, 1.0])
    normals = sums[place].astype(np.float32)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)
