"""Meshes that the user gave: one GLB per object, as one textured mesh."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float32, Int32, UInt8

from scenegen.errors import InputError
from scenegen.untrusted.picture import parsing

if TYPE_CHECKING:
    import trimesh

MAX_FACES = 500_000
MIN_FACES = 4
COMPRESSIONS = (b"KHR_draco_mesh_compression", b"EXT_meshopt_compression", b"KHR_meshopt_compression")
"""Extensions of glTF that trimesh does not decode: it gives zeros instead."""
UV_TOLERANCE = 1e-3
PLAIN = (0.0, 0.8)
"""Metallic and roughness where a file says nothing."""
GREY = (200, 200, 200)


@dataclass(frozen=True, eq=False)
class ReadMesh:
    """One mesh of triangles with one texture: glTF's axes (Y up) and UVs."""

    vertices: Float32[np.ndarray, "v 3"]
    faces: Int32[np.ndarray, "f 3"]
    uv: Float32[np.ndarray, "v 2"]
    base_color: UInt8[np.ndarray, "h w 3"]
    material: Float[np.ndarray, "2"]
    """Metallic and roughness."""

    def save(self, path: Path) -> None:
        """Writes it as `scenegen.geometry.mesh.load_mesh` reads it."""
        np.savez(
            path,
            allow_pickle=False,
            vertices=self.vertices,
            faces=self.faces,
            uv=self.uv,
            base_color=self.base_color,
            material=self.material,
        )


def read_glb(path: Path, what: str) -> ReadMesh:
    """The mesh of a GLB: all parts of its scene together. Textures of materials other than base colour are left out.

    Args:
        path: the file, which cannot refer to others.
        what: its name in messages.

    Raises:
        InputError: if it is damaged, or holds no solid of at most `MAX_FACES` triangles.
    """
    import trimesh

    if path.stat().st_size == 0:
        raise InputError(f"{what} is an empty file. Copy or save it again.")
    with parsing(what):
        content = path.read_bytes()
        packed = [name for name in COMPRESSIONS if name in content]
        if packed:
            raise InputError(
                f"{what} is compressed ({packed[0].decode()}), which is not read. Export it without compression."
            )
        # Without a name it cannot refer to other files.
        scene = trimesh.load_scene(io.BytesIO(content), file_type="glb", resolver=None)
        placed = scene.dump()
        parts = [part for part in placed if isinstance(part, trimesh.Trimesh) and len(part.faces)]
        count = sum(len(part.faces) for part in parts)
        if not count and any(not isinstance(part, trimesh.Trimesh) for part in placed):
            raise InputError(
                f"{what} has no triangles, only points or lines. Make a surface of them first, such as by Poisson reconstruction."
            )
        if not MIN_FACES <= count <= MAX_FACES:
            raise InputError(
                f"{what} has {count} triangles; allowed: {MIN_FACES} to {MAX_FACES}. Simplify it first, or check what it holds."
            )
        textured = _textured(parts[0]) if len(parts) == 1 else None
        mesh = _coloured(parts) if textured is None else textured
    if not np.isfinite(mesh.vertices).all() or np.ptp(mesh.vertices, axis=0).max() <= 0:
        raise InputError(f"{what} has corners that are no finite points apart from each other.")
    return mesh


def _textured(part: trimesh.Trimesh) -> ReadMesh | None:
    """A part with one texture in 0..1; None for any other."""
    uv, material = getattr(part.visual, "uv", None), getattr(part.visual, "material", None)
    picture = getattr(material, "baseColorTexture", None)
    if uv is None or picture is None or len(uv) != len(part.vertices):
        return None
    uv = np.asarray(uv, np.float32)
    if not np.isfinite(uv).all() or uv.min() < -UV_TOLERANCE or uv.max() > 1 + UV_TOLERANCE:
        return None
    colours = np.asarray(picture.convert("RGB")).astype(np.float32) * _factor(material)
    # trimesh counts v from the bottom, glTF from the top.
    flipped = np.stack([uv[:, 0], 1 - uv[:, 1]], axis=1)
    return ReadMesh(
        np.asarray(part.vertices, np.float32),
        np.asarray(part.faces, np.int32),
        np.clip(flipped, 0, 1),
        np.clip(np.round(colours), 0, 255).astype(np.uint8),
        _material(material),
    )


def _coloured(parts: list[trimesh.Trimesh]) -> ReadMesh:
    """Parts with any colours: every triangle gets a texel of its own."""
    corners = np.concatenate([np.asarray(part.vertices, np.float32)[part.faces] for part in parts])
    colours = np.concatenate([_face_colours(part) for part in parts])
    side = math.ceil(math.sqrt(len(corners)))
    texture = np.zeros((side * side, 3), np.uint8)
    texture[: len(colours)] = colours
    texel = np.arange(len(corners))
    centres = (np.stack([texel % side, texel // side], axis=1) + 0.5) / side
    return ReadMesh(
        corners.reshape(-1, 3),
        np.arange(3 * len(corners), dtype=np.int32).reshape(-1, 3),
        np.repeat(centres, 3, axis=0).astype(np.float32),
        texture.reshape(side, side, 3),
        _material(getattr(parts[0].visual, "material", None)),
    )


def _face_colours(part: trimesh.Trimesh) -> UInt8[np.ndarray, "f 3"]:
    visual: Any = part.visual
    if visual.kind is None:
        return np.tile(np.array(GREY, np.uint8), (len(part.faces), 1))
    if visual.kind == "texture":
        factor = _factor(visual.material)
        if getattr(visual, "uv", None) is None or getattr(visual.material, "baseColorTexture", None) is None:
            return np.tile(np.round(255 * factor).astype(np.uint8), (len(part.faces), 1))
        visual = visual.to_color()
        visual.mesh = part
    return np.asarray(visual.face_colors)[:, :3].astype(np.uint8)


def _factor(material: Any) -> Float32[np.ndarray, "3"]:
    """The base colour factor, 0..1."""
    factor = getattr(material, "baseColorFactor", None)
    if factor is None:
        return np.ones(3, np.float32)
    values = np.asarray(factor, np.float32)[:3]
    return values / 255 if values.max() > 1 else values


def _material(material: Any) -> Float[np.ndarray, "2"]:
    stated = (getattr(material, "metallicFactor", None), getattr(material, "roughnessFactor", None))
    values = [default if value is None else float(value) for value, default in zip(stated, PLAIN, strict=True)]
    return np.clip(np.nan_to_num(values), 0, 1)
