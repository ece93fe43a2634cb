"""A mesh in the forms that other programs take: as a `trimesh.Trimesh`, and as a file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from scenegen.errors import UsageError
from scenegen.geometry.mesh import TexturedMesh

if TYPE_CHECKING:
    import trimesh

SUFFIXES = (".glb", ".obj", ".ply", ".stl")
"""Of the files that `write_mesh` writes."""


def write_mesh(mesh: TexturedMesh, path: Path) -> None:
    """Writes one mesh to a file, in the format that its suffix names. OBJ comes with its MTL and texture beside it; STL has no
    colours.

    Args:
        mesh: in the frame that the file shall have; GLB is read as metres, Y up.
        path: of the file, which is replaced.

    Raises:
        UsageError: for another suffix.
        OSError: if the file cannot be written.

    Examples:
        >>> import numpy as np, tempfile
        >>> triangle = TexturedMesh(
        ...     vertices=np.eye(3, dtype=np.float32),
        ...     faces=np.array([[0, 1, 2]], dtype=np.int32),
        ...     uv=np.zeros((3, 2), dtype=np.float32),
        ...     base_color=np.zeros((1, 1, 3), dtype=np.uint8),
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_mesh(triangle, Path(folder) / "triangle.glb")
        ...     [path.name for path in Path(folder).iterdir()]
        ['triangle.glb']
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"`path` is {path}; its suffix must be one of {', '.join(SUFFIXES)}.")
    to_trimesh(mesh, path.stem).export(path)


def to_trimesh(mesh: TexturedMesh, name: str) -> trimesh.Trimesh:
    """`mesh` as a `trimesh.Trimesh`: the same vertices and faces in the same frame, its textures as a PBR material.

    Vertices stay split along the seams of the texture, so `is_watertight` is false until `merge_vertices(merge_tex=True)`.

    Args:
        mesh: metres or any other unit; the frame stays.
        name: of the mesh (`metadata["name"]`) and of its material.

    Examples:
        >>> import numpy as np
        >>> triangle = TexturedMesh(
        ...     vertices=np.eye(3, dtype=np.float32),
        ...     faces=np.array([[0, 1, 2]], dtype=np.int32),
        ...     uv=np.zeros((3, 2), dtype=np.float32),
        ...     base_color=np.zeros((1, 1, 3), dtype=np.uint8),
        ... )
        >>> to_trimesh(triangle, "triangle").metadata["name"]
        'triangle'
    """
    import trimesh
    from trimesh.visual import TextureVisuals
    from trimesh.visual.material import PBRMaterial

    packed = mesh.metallic_roughness
    material = PBRMaterial(
        name=name,
        baseColorTexture=Image.fromarray(mesh.base_color),
        metallicRoughnessTexture=None if packed is None else Image.fromarray(packed),
        metallicFactor=mesh.metallic if packed is None else 1.0,
        roughnessFactor=mesh.roughness if packed is None else 1.0,
    )
    # trimesh counts v from the bottom, glTF from the top.
    upright = np.stack([mesh.uv[:, 0], 1 - mesh.uv[:, 1]], axis=1)
    visual = TextureVisuals(uv=upright, material=material)
    return trimesh.Trimesh(mesh.vertices, mesh.faces, visual=visual, metadata={"name": name}, process=False)
