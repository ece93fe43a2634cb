"""A bowl, to put things in."""

from __future__ import annotations

import numpy as np
import trimesh

RADIUS, WALL = 0.12, 0.012


def bowl() -> trimesh.Trimesh:
    """Half a hollow ball with a flat foot of radius 0.05, Y up, standing at height 0; its inside has the radius 0.108."""
    angles = np.linspace(np.arcsin(0.05 / RADIUS), np.pi / 2, 24)
    outer = np.stack([RADIUS * np.sin(angles), RADIUS * (1 - np.cos(angles))], axis=1)
    outer[:, 1] -= outer[0, 1]
    angles = np.linspace(np.pi / 2, 0, 24)
    inside = RADIUS - WALL
    inner = np.stack([inside * np.sin(angles), outer[-1, 1] - inside * np.cos(angles)], axis=1)
    inner[:, 1] = np.maximum(inner[:, 1], 0.006)
    profile = np.concatenate([[[0, 0]], outer, inner])
    made = trimesh.creation.revolve(profile, sections=48)
    made.merge_vertices()
    made.update_faces(made.nondegenerate_faces())
    made.apply_transform(trimesh.transformations.rotation_matrix(-np.pi / 2, [1, 0, 0]))
    made.fix_normals()
    return made
