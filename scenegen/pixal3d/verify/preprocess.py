"""Checks the preparation of the picture against the reference."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from scenegen.pixal3d.preprocess import MAX_SIDE, object_picture
from scenegen.pixal3d.verify.case import Case, Check, Measured, compare

RESIZED_LEVELS = 1.0
"""Tolerance in levels of 255: another version of Pillow may round a resize differently by one."""


def check_preprocess(case: Case) -> list[Measured]:
    """Every `in_*` cropped and composed, against its `out_*`."""
    measured = []
    for name, rgba in case.tensors.items():
        if not name.startswith("in_"):
            continue
        label = name.removeprefix("in_")
        ours = torch.from_numpy(object_picture(rgba.numpy()))
        resized = max(rgba.shape[:2]) > MAX_SIDE
        measured.append(compare(label, ours, case.tensors[f"out_{label}"], RESIZED_LEVELS if resized else 0.0))
    return measured


CHECKS: Mapping[str, Check] = {"02_preprocess": check_preprocess}
