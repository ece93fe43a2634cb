"""`python -m scenegen.pixal3d.verify DIR`: compares our numbers with stored numbers of the reference.

Reads every case file in DIR, runs our code on its inputs, and prints what was compared, the largest absolute and relative
difference, the tolerance and the verdict. The exit code is 1 if any comparison fails or any case is of an unknown kind.
`--manifest DIR` compares names, shapes and types of every released network, built without memory, with DIR's manifests.
`--device cuda` computes there, what is left to the CPU in use excepted, in float32 without TF32; with `--dtype bfloat16` or
`float16`, as released, the blocks of flows and decoders compute in half precision, and only their cases are compared.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Literal

import torch
from cyclopts import App, Parameter
from rich.console import Console

from scenegen.compute.torch_env import exact_sums
from scenegen.pixal3d.verify import cascade, decoder, features, flow, pipeline, preprocess, projection, sampler, surface
from scenegen.pixal3d.verify.case import Case, Check, Measured, read_case
from scenegen.pixal3d.verify.manifest import compare_manifest

logger = logging.getLogger(__name__)

GROUPS = (preprocess, projection, features, flow, sampler, decoder, surface, cascade, pipeline)
ON_DEVICE = tuple(prefix for group in (features, flow, decoder, surface, cascade, pipeline) for prefix in group.CHECKS)
"""Kinds of cases that compute on the device; the others check arithmetic that is the CPU's in use."""
HALF = (*flow.CHECKS, "07_ss_decoder", "08b_texture_decoder")
"""Kinds of cases whose networks have half-precision blocks, and whose numbers do not hang on a decision."""
COMPANION = "_weights"
"""A file whose name ends so holds the weights of the case of the same name, and is read with it."""

app = App(name="python -m scenegen.pixal3d.verify", help=__doc__)


def find_check(name: str) -> Check | None:
    """The check whose kind `name` begins with; the most specific one if there are several."""
    known = {prefix: check for group in GROUPS for prefix, check in group.CHECKS.items()}
    fitting = [prefix for prefix in known if name.startswith(prefix)]
    return known[max(fitting, key=len)] if fitting else None


def run_case(case: Case, check: Check, device: torch.device | str = "cpu") -> list[Measured]:
    """The comparisons of one case; an exception counts as a failed comparison."""
    exact = torch.backends.cudnn.flags(allow_tf32=False)
    try:
        with torch.inference_mode(), torch.device(device), exact, exact_sums():
            return check(case)
    except Exception as error:  # one broken case must not hide the others
        logger.debug("%s", case.name, exc_info=True)
        return [Measured(f"{type(error).__name__}: {error}", float("inf"), float("inf"), 0.0)]


@app.default
def verify(
    folder: Annotated[Path | None, Parameter(name="DIR")] = None,
    /,
    *,
    manifest: Path | None = None,
    device: str = "cpu",
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
) -> int:
    """Compare every stored case in DIR.

    Args:
        folder: Case files (.safetensors).
        manifest: Folder of manifests (.json) of the released checkpoints.
        device: Where networks compute: cpu, cuda, cuda:N.
        dtype: Of the blocks of flows and decoders.
    """
    console = Console(highlight=False, soft_wrap=True, markup=False)
    failed = left_out = 0
    if folder is None and manifest is None:
        console.print("give DIR, a folder of case files, or --manifest DIR")
        return 2
    if folder is not None:
        paths = sorted(folder.glob("*.safetensors"))
        if not paths:
            console.print(f"{folder} holds no case file (*.safetensors)")
            return 2
        for path in paths:
            if path.stem.endswith(COMPANION):
                continue
            check = find_check(path.stem)
            if check is None:
                console.print(f"FAIL  {path.stem}: unknown kind of case")
                failed += 1
                continue
            if dtype != "float32" and not path.stem.startswith(HALF):
                left_out += 1
                continue
            where = device if path.stem.startswith(ON_DEVICE) else "cpu"
            for measured in run_case(read_case(path, where, getattr(torch, dtype)), check, where):
                failed += not measured.passed
                console.print(
                    f"{'ok  ' if measured.passed else 'FAIL'}  {path.stem}  {measured.what}  "
                    f"abs {measured.absolute:.2e}  rel {measured.relative:.2e}  tol {measured.tolerance:.0e}"
                )
    if manifest is not None:
        for path in sorted(manifest.glob("*.json")):
            differences = compare_manifest(path)
            if differences is None:
                continue
            failed += len(differences)
            console.print(f"{'FAIL' if differences else 'ok  '}  {path.stem}")
            for difference in differences[:20]:
                console.print(f"      {difference}")
    if left_out:
        console.print(f"{left_out} cases have nothing in {dtype} and were left out")
    console.print(f"{failed} failed" if failed else "all passed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(app(result_action="return_value"))
