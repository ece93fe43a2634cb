"""Decoder outputs that are known: the dual grid of a ball, with a material that varies over it in closed form."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import torch

from scenegen.pixal3d.generation import Generated
from scenegen.pixal3d.surface import DualGrid, dual_grid_to_mesh

Material = Callable[[np.ndarray], np.ndarray]
"""Attributes [n, 6] at points [n, 3] of the latent cube."""


def ball_grid(place: np.ndarray, radius: float, resolution: int) -> DualGrid:
    """Every voxel that the surface of the ball crosses, its vertex on the ball."""
    axis = np.arange(resolution + 1) / resolution - 0.5
    lattice = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    inside = np.linalg.norm(lattice - place, axis=-1) < radius
    corner = {
        c: inside[c[0] : c[0] + resolution, c[1] : c[1] + resolution, c[2] : c[2] + resolution]
        for c in itertools.product((0, 1), repeat=3)
    }
    count = sum(part.astype(int) for part in corner.values())
    coords = np.argwhere((count > 0) & (count < 8))
    crossed = np.stack([corner[1, 1, 1] ^ corner[c] for c in ((0, 1, 1), (1, 0, 1), (1, 1, 0))], axis=-1)
    offset = (coords + 0.5) / resolution - 0.5 - place
    on_ball = place + radius * offset / np.linalg.norm(offset, axis=1, keepdims=True)
    vertices = ((on_ball + 0.5) * resolution - coords).clip(0, 1)
    return DualGrid(
        coords=torch.from_numpy(np.pad(coords, ((0, 0), (1, 0)))).int(),
        dual_vertices=torch.from_numpy(vertices).float(),
        intersected=torch.from_numpy(crossed[tuple(coords.T)]),
        split_weight=torch.ones(len(coords), 1),
    )


def generated_ball(place: np.ndarray, radius: float, material: Material, resolution: int = 64) -> Generated:
    """As the decoders give it."""
    grid = ball_grid(place, radius, resolution)
    vertices, faces = dual_grid_to_mesh(grid, resolution)
    coords = grid.coords[:, 1:]
    attributes = material((coords.numpy() + 0.5) / resolution - 0.5)
    return Generated(vertices, faces, coords, torch.from_numpy(attributes).float(), resolution)


def gradient(points: np.ndarray) -> np.ndarray:
    """Colours by place, metallic by x, roughness by y, solid."""
    unit = points + 0.5
    return np.concatenate([unit, unit[:, :1], unit[:, 1:2], np.ones((len(points), 1))], axis=1)


def striped(points: np.ndarray) -> np.ndarray:
    """`gradient` with alpha 1 where x is below a quarter of the cube's middle line, else 0."""
    attributes = gradient(points)
    attributes[:, 5] = points[:, 0] < 0
    return attributes


def glassy(points: np.ndarray) -> np.ndarray:
    """`gradient`, half seen through."""
    attributes = gradient(points)
    attributes[:, 5] = 0.5
    return attributes
