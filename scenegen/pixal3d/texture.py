"""Bakes the decoded material voxels into textures: every texel of the simplified surface finds its place on the raw one."""

from __future__ import annotations

import logging

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8

from scenegen.errors import InputError
from scenegen.geometry.bake import rasterised
from scenegen.geometry.closest import closest_points
from scenegen.geometry.unwrap import Atlas
from scenegen.messages.remarks import note
from scenegen.pixal3d.generation import Generated
from scenegen.pixal3d.voxels import BASE_COLOR, SURFACE, as_bytes, sample_voxels

logger = logging.getLogger(__name__)

COLOUR_RADIUS, SURFACE_RADIUS = 3, 1
"""Reach of the inpainting in texels, for base colours and for the other channels."""
UNKNOWN = 0.001
"""If more than this share of the surface's texels have no voxel around them, a note says so."""


def bake_voxels(
    vertices: Float32[np.ndarray, "v 3"], atlas: Atlas, generated: Generated, texels: int
) -> tuple[UInt8[np.ndarray, "t t 4"], UInt8[np.ndarray, "t t 3"], tuple[str, ...]]:
    """The decoded material in the surface's atlas.

    Simplifying has moved the surface off the voxels, so each texel's point is first moved to the nearest point of the raw
    surface, and sampled there. Between the charts, and where no voxel is near, the textures are inpainted (Telea 2004).

    Args:
        vertices: vertices of the unwrapped surface, in the latent frame, before the seams were cut.
        atlas: its seams and UVs.
        generated: the raw surface and the voxels.
        texels: side of the square textures.

    Returns:
        - **base_color**: sRGB and alpha, the values of the voxels as they are.
        - **metallic_roughness**: as glTF packs them: roughness in G, metallic in B, nothing in R.
        - **warnings**: a note if texels had no voxel.

    Raises:
        InputError: if no texel has a voxel: surface and voxels are not of one object or frame.
    """
    texel_faces, weights = rasterised(atlas.uv, atlas.faces, texels)
    covered = texel_faces >= 0
    corners = atlas.source[atlas.faces[texel_faces[covered]]]
    points = np.einsum("nc,ncd->nd", weights[covered], vertices[corners])
    raw = closest_points(generated.vertices.cpu().float().numpy(), generated.faces.cpu().numpy(), points).points
    device = generated.attributes.device
    values, known = sample_voxels(
        generated.coords, generated.attributes.float(), torch.from_numpy(raw).to(device), generated.resolution
    )
    there = known.cpu().numpy()
    if not there.any():
        raise InputError(
            f"none of the {len(points)} texels of the surface has a voxel of `generated` around it; "
            "give the surface that was cleaned from it, in the latent frame."
        )
    warnings: tuple[str, ...] = ()
    if np.mean(~there) > UNKNOWN:
        warnings = (note(f"{np.mean(~there):.1%} of the texels have no material voxel near them and were inpainted."),)
    texture = np.zeros((texels, texels, values.shape[1]), dtype=np.uint8)
    texture[covered] = as_bytes(values).cpu().numpy()
    unknown = ~covered
    unknown[covered] = ~there
    colour = _inpainted(texture[..., BASE_COLOR], unknown, COLOUR_RADIUS)
    metallic, roughness, alpha = np.moveaxis(_inpainted(texture[..., SURFACE], unknown, SURFACE_RADIUS), -1, 0)
    return (
        np.concatenate([colour, alpha[..., None]], axis=2),
        np.stack([np.zeros_like(roughness), roughness, metallic], axis=2),
        warnings,
    )


def _inpainted(
    channels: UInt8[np.ndarray, "t t 3"], unknown: Bool[np.ndarray, "t t"], radius: int
) -> UInt8[np.ndarray, "t t 3"]:
    """The channels, each continued into the unknown texels."""
    return cv2.inpaint(np.ascontiguousarray(channels), unknown.astype(np.uint8), radius, cv2.INPAINT_TELEA)
