"""A mesh in the form that other Python programs take: `trimesh`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from scenegen.geometry.mesh import TexturedMesh

if TYPE_CHECKING:
    import trimesh


def to_trimesh(mesh: TexturedMesh, name: str) -> trimesh.Trimesh:
    """`mesh` as a `trimesh.Trimesh`: the same vertices and faces in the same frame, its textures as a PBR material.

    Vertices stay split along the seams of the texture, so `is_watertight` is false until `merge_vertices(merge_tex=True)`.

    Args:
        mesh: metres or any other unit; the frame stays.
        name: of the mesh (`metadata["name"]`) and of its material.

    Example:
        >>> import numpy as np
        >>> triangle = TexturedMesh(
        ...     vertices=np.eye(3, dtype=np.float32),
        ...     faces=np.array([[0, 1, 2]], dtype=np.int32),
        ...     uv=np.zeros((3, 2), dtype=np.float32),
        ...     base_color=np.zeros((1, 1, 3), dtype=np.uint8),
        ... )
        >>> to_trimesh(triangle, "triangle").area.round(3)
        0.866
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
