"""Checks the quantiser between coarse and fine shape against stored cases."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from scenegen.pixal3d.cascade import fine_voxels, quantise
from scenegen.pixal3d.verify.case import Case, Check, Measured, compare_exactly


def check_quantiser(case: Case) -> list[Measured]:
    """Every setting of the case: the resolution that is accepted, each voxel's place, and the unique ones."""
    measured = []
    coords = case.tensors["hr_coords_in"]
    for name, setting in case.config.items():
        ours = fine_voxels(coords, setting["hr_resolution_in"], setting["max_num_tokens"])
        numbers = [ours.resolution, ours.grid, len(ours.coords)]
        stored = [setting[key] for key in ("hr_resolution_out", "grid_res", "tokens")]
        measured += [
            compare_exactly(f"{name} resolution, grid, tokens", torch.tensor(numbers), torch.tensor(stored)),
            compare_exactly(f"quant_{name}", quantise(coords, ours.grid), case.tensors[f"quant_{name}"]),
            compare_exactly(f"coords_{name}", ours.coords, case.tensors[f"coords_{name}"]),
        ]
    return measured


CHECKS: Mapping[str, Check] = {"02_hr_quantiser": check_quantiser}
