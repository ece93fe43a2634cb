"""Makes a mesh for other programs from decoded voxels: cleans, simplifies and unwraps the surface, and bakes its material."""

from __future__ import annotations

from scenegen.config import Pixal3DConfig, TextureConfig
from scenegen.geometry.mesh import TexturedMesh
from scenegen.geometry.unwrap import unwrap
from scenegen.messages.progress import tell_progress
from scenegen.pixal3d.generation import Generated
from scenegen.pixal3d.shell import offset_shell
from scenegen.pixal3d.surface import CleanSurface, clean_surface
from scenegen.pixal3d.texture import bake_voxels


def finished(
    generated: Generated, config: Pixal3DConfig, texture: TextureConfig
) -> tuple[TexturedMesh, tuple[str, ...]]:
    """The decoded object as a simplified mesh with its material, in the latent frame.

    Args:
        generated: raw surface and material voxels.
        config: kind of surface, and number of faces.
        texture: size of the textures, and how long unwrapping may take.

    Returns:
        - **mesh**.
        - **warnings**: from cleaning, unwrapping and baking.

    Raises:
        InputError: if the decoded surface has no faces.
        ResourceError: if unwrapping takes too long, or its process is lost.
    """
    tell_progress("surface")
    surface = _surface(generated, config)
    tell_progress("unwrapping")
    atlas = unwrap(surface.vertices, surface.faces, texture.size, texture.unwrap_timeout_s)
    tell_progress("baking")
    base_color, metallic_roughness, unknown = bake_voxels(surface.vertices, atlas, generated, texture.size)
    mesh = TexturedMesh(
        vertices=surface.vertices[atlas.source],
        faces=atlas.faces,
        uv=atlas.uv,
        base_color=base_color,
        metallic=1.0,
        roughness=1.0,
        metallic_roughness=metallic_roughness,
    )
    return mesh, (*surface.warnings, *atlas.warnings, *unknown)


def _surface(generated: Generated, config: Pixal3DConfig) -> CleanSurface:
    vertices, faces = generated.vertices.cpu().double().numpy(), generated.faces.cpu().numpy()
    if config.surface == "shell":
        vertices, faces = offset_shell(vertices, faces, generated.resolution)
    return clean_surface(vertices, faces, max_faces=config.max_faces)
