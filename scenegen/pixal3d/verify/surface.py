"""Checks mesh extraction and material sampling against stored cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from scenegen.pixal3d.surface import DualGrid, dual_grid_to_mesh
from scenegen.pixal3d.verify.case import Case, Check, Measured, compare, compare_exactly
from scenegen.pixal3d.voxels import as_bytes, sample_voxels

VERTEX_TOLERANCE = 1e-6
SAMPLE_TOLERANCE = 1e-4
BYTE_TOLERANCE = 1.0


def check_dual_grid(case: Case) -> list[Measured]:
    """Vertices in place and faces in order; if stored, also with all split weights equal."""
    coords, vertices, intersected, weight = (
        case.tensors[name] for name in ("coords", "dual_vertices", "intersected", "split_weight")
    )
    grid = DualGrid(functional.pad(coords, (1, 0)), vertices, intersected, weight)
    points, faces = dual_grid_to_mesh(grid, case.config["grid_size"])
    low, high = torch.tensor(case.config["aabb"])
    measured = [
        compare("vertices", low + (points + 0.5) * (high - low), case.tensors["vertices"], VERTEX_TOLERANCE),
        compare_exactly("faces", faces, case.tensors["faces"]),
    ]
    if "faces_all_ties" in case.tensors:
        tied = replace(grid, split_weight=torch.ones_like(weight))
        _, faces = dual_grid_to_mesh(tied, case.config["grid_size"])
        measured.append(compare_exactly("faces_all_ties", faces, case.tensors["faces_all_ties"]))
    return measured


def check_sampling(case: Case) -> list[Measured]:
    """Sampled attributes, as numbers and bytes, and exact zeros where no voxel is near."""
    points = _in_cube(case.tensors["points"], torch.tensor(case.config["aabb"]))
    stored = case.tensors["sampled"]
    values, known = sample_voxels(case.tensors["coords"], case.tensors["attrs"], points, case.config["resolution"])
    nowhere = (stored == 0).all(dim=1)
    return [
        compare("sampled", values, stored, SAMPLE_TOLERANCE),
        compare_exactly("sampled where nothing is", values[nowhere], stored[nowhere]),
        compare_exactly("unknown", ~known, nowhere),
        compare("sampled_uint8", as_bytes(values), case.tensors["sampled_uint8"], BYTE_TOLERANCE),
    ]


CHECKS: Mapping[str, Check] = {"09_fdg": check_dual_grid, "12_texture_sampling": check_sampling}


def _in_cube(points: Float[Tensor, "n 3"], aabb: Float[Tensor, "2 3"]) -> Float[Tensor, "n 3"]:
    return (points - aabb[0]) / (aabb[1] - aabb[0]) - 0.5
