"""Coloured meshes from any folder of GLB files, with or without an `index.csv`, or from a file that packs such a folder."""

from __future__ import annotations

import csv
import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Int32, UInt8

from scenegen.errors import InputError
from scenegen.geometry.mesh import joined, vertex_normals
from scenegen.geometry.render import RayCaster
from scenegen.train.packing import Triangles, read_index, read_packed, write_pack

if TYPE_CHECKING:
    from trimesh import Trimesh

logger = logging.getLogger(__name__)

INDEX = "index.csv"
CREASE_COS = float(np.cos(np.radians(40)))
"""Cosine of the angle between a triangle and the surface around its corner; at larger angles the edge is sharp."""


@dataclass(frozen=True, eq=False)
class ColoredMesh:
    """Triangles with a colour per vertex, Y up, in the file's own units. Either side may be the outer one."""

    vertices: Float32[np.ndarray, "v 3"]
    faces: Int32[np.ndarray, "f 3"]
    colors: UInt8[np.ndarray, "v 3"]
    """sRGB albedo."""
    unstretched: ColoredMesh | None = None
    """The mesh of which this is a stretched copy."""
    stretch: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """The factors by which it is stretched along the axes."""

    def stretched(self, x: float, y: float, z: float) -> ColoredMesh:
        """A copy that is longer by these factors along the axes."""
        vertices = self.vertices * np.array([x, y, z], np.float32)
        return ColoredMesh(vertices, self.faces, self.colors, unstretched=self, stretch=(x, y, z))

    @cached_property
    def low(self) -> Float32[np.ndarray, "3"]:
        """The bounding box's smallest corner."""
        return self.vertices.min(axis=0)

    @cached_property
    def high(self) -> Float32[np.ndarray, "3"]:
        """The bounding box's largest corner."""
        return self.vertices.max(axis=0)

    @cached_property
    def longest_side(self) -> float:
        """Longest side of the bounding box."""
        return float((self.high - self.low).max())

    @cached_property
    def caster(self) -> RayCaster:
        """A ray caster in the mesh's frame."""
        return RayCaster(self.vertices, self.faces)

    @cached_property
    def face_normals(self) -> Float32[np.ndarray, "f 3"]:
        """Unit normals; 0 for triangles without area."""
        corners = self.vertices[self.faces].astype(np.float64)
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        return (normals / np.maximum(length, 1e-30)).astype(np.float32)

    @cached_property
    def corner_normals(self) -> Float32[np.ndarray, "f 3 3"]:
        """Unit normals for shading: those of the surface around a corner where it is smooth, else the triangle's own."""
        smooth = vertex_normals(self.vertices, self.faces)[self.faces]
        flat = np.repeat(self.face_normals[:, None], 3, axis=1)
        return np.where((smooth * flat).sum(axis=-1, keepdims=True) > CREASE_COS, smooth, flat)

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of positions, triangles and colours."""
        content = hashlib.sha256()
        for array in (self.vertices, self.faces, self.colors):
            content.update(str(array.shape).encode())
            content.update(np.ascontiguousarray(array).tobytes())
        return content.hexdigest()


@dataclass(frozen=True)
class MeshFile:
    """One mesh of a folder, not yet read."""

    path: Path
    category: str = ""
    split: str = "train"
    metric: bool = False
    """Whether its units are metres."""
    span: tuple[int, int] | None = None
    """Start and length in the pack, the parent of `path`; None for a file of its own."""


@dataclass(frozen=True)
class MeshFolder:
    """Meshes by number, each read at its first use and kept."""

    files: tuple[MeshFile, ...]
    stretch: float = 0.0
    """Largest change of the logarithm of each mesh's extents, along each axis by itself."""
    seed: int = 0
    """Random seed of the stretching."""
    _read: dict[int, ColoredMesh] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.files)

    def __reduce__(self) -> tuple[type[MeshFolder], tuple[tuple[MeshFile, ...], float, int]]:
        # What was read holds ray casters, which another process must make for itself.
        return MeshFolder, (self.files, self.stretch, self.seed)

    def __getitem__(self, index: int) -> ColoredMesh:
        if index not in self._read:
            item = self.files[index]
            mesh = read_mesh(item.path) if item.span is None else _unpacked(item.path.parent, item.span)
            if self.stretch > 0:
                rng = np.random.default_rng([self.seed, index])
                mesh = mesh.stretched(*np.exp(rng.uniform(-self.stretch, self.stretch, 3)).tolist())
            self._read[index] = mesh
        return self._read[index]


def mesh_folder(folder: Path, splits: Sequence[str] = ("train",)) -> MeshFolder:
    """The meshes of `folder`, or of a file of `pack_meshes`, that belong to one of `splits`, sorted by path.

    With an `index.csv` (columns `file`, and optionally `split`, `category`, `metric_scale`) they are the files it names;
    without one, every `.glb` below the folder counts as training data.

    Raises:
        InputError: if the folder has no such mesh, or the index names no files.
    """
    index = folder / INDEX
    if folder.is_file():
        found = [
            MeshFile(folder / row["file"], row["category"], row["split"], row["metric"], (row["start"], row["bytes"]))
            for row in read_index(folder)
        ]
    elif index.is_file():
        with index.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        if any(not row.get("file") for row in rows):
            raise InputError(f"`{index}` has rows without `file`; every row must name a GLB below its folder.")
        found = [
            MeshFile(
                path=folder / row["file"],
                category=row.get("category") or "",
                split=row.get("split") or "train",
                metric=row.get("metric_scale") == "1",
            )
            for row in rows
        ]
    else:
        found = [MeshFile(path=path) for path in folder.rglob("*.glb")]
    chosen = tuple(sorted((item for item in found if item.split in splits), key=lambda item: item.path))
    if not chosen:
        raise InputError(f"`{folder}` has no .glb file of the splits {', '.join(splits)}; give a folder of GLB meshes.")
    return MeshFolder(chosen)


def pack_meshes(*, meshes: Path, out: Path, splits: Sequence[str] = ("train",)) -> None:
    """Pack a folder of GLB meshes into one small file, which training accepts in its place.

    Parameters
    ----------
    meshes
        A folder of GLB files.
    out
        The file to write.
    splits
        Splits of the folder to pack, as its `index.csv` names them.
    """
    folder = mesh_folder(meshes, splits)

    def entries() -> Iterator[tuple[dict[str, Any], Triangles]]:
        for item in folder.files:
            mesh = read_mesh(item.path)
            named = {"file": item.path.name, "category": item.category, "split": item.split, "metric": item.metric}
            yield named, Triangles(mesh.vertices, mesh.faces, mesh.colors)

    write_pack(out, entries())
    logger.info("%d meshes in %.1f MB", len(folder), out.stat().st_size / 1e6)


def _unpacked(pack: Path, span: tuple[int, int]) -> ColoredMesh:
    return ColoredMesh(**vars(read_packed(pack, *span)))


def read_mesh(path: Path) -> ColoredMesh:
    """All of a GLB file as one mesh. Textures and materials become vertex colours, or grey if there are none.

    Raises:
        InputError: if the file cannot be read, or has no triangles with an extent.
    """
    import trimesh  # training from a pack does not need it

    try:
        loaded = trimesh.load(path, process=False)
    except Exception as error:  # a damaged file can raise anything
        raise InputError(f"`{path}` cannot be read as a mesh ({error}); give a GLB file.") from error
    parts = loaded.dump() if isinstance(loaded, trimesh.Scene) else [loaded]
    parts = [part for part in parts if isinstance(part, trimesh.Trimesh) and len(part.faces)]
    if not parts or not np.ptp(np.concatenate([part.vertices for part in parts]), axis=0).max() > 0:
        raise InputError(f"`{path}` has no triangles; give a mesh with a surface.")
    vertices, faces = joined([part.vertices for part in parts], [part.faces for part in parts])
    return ColoredMesh(
        vertices=vertices.astype(np.float32),
        faces=faces,
        colors=np.concatenate([_vertex_colors(part) for part in parts]),
    )


def _vertex_colors(part: Trimesh) -> UInt8[np.ndarray, "v 3"]:
    colored = part.visual.to_color() if part.visual.kind == "texture" else part.visual
    return np.ascontiguousarray(colored.vertex_colors[:, :3], dtype=np.uint8)
