"""`python -m scenegen.pixal3d.verify DIR`: compares our numbers with stored numbers of the reference.

Reads every case file in DIR, runs our code on its inputs, and prints what was compared, the largest absolute and relative
difference, the tolerance and the verdict. The exit code is 1 if any comparison fails or any case is of an unknown kind.
`--manifest DIR` compares names, shapes and types of every released network, built without memory, with DIR's manifests.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import torch
from cyclopts import App, Parameter
from rich.console import Console

from scenegen.pixal3d.verify import cascade, decoder, features, flow, pipeline, preprocess, projection, sampler, surface
from scenegen.pixal3d.verify.case import Case, Check, Measured, read_case
from scenegen.pixal3d.verify.manifest import compare_manifest

logger = logging.getLogger(__name__)

GROUPS = (preprocess, projection, features, flow, sampler, decoder, surface, cascade, pipeline)
COMPANION = "_weights"
"""A file whose name ends so holds the weights of the case of the same name, and is read with it."""

app = App(name="python -m scenegen.pixal3d.verify", help=__doc__)


def find_check(name: str) -> Check | None:
    """The check whose kind `name` begins with; the most specific one if there are several."""
    known = {prefix: check for group in GROUPS for prefix, check in group.CHECKS.items()}
    fitting = [prefix for prefix in known if name.startswith(prefix)]
    return known[max(fitting, key=len)] if fitting else None


def run_case(case: Case, check: Check) -> list[Measured]:
    """The comparisons of one case; an exception counts as a failed comparison."""
    try:
        with torch.inference_mode():
            return check(case)
    except Exception as error:  # one broken case must not hide the others
        logger.debug("%s", case.name, exc_info=True)
        return [Measured(f"{type(error).__name__}: {error}", float("inf"), float("inf"), 0.0)]


@app.default
def verify(folder: Annotated[Path | None, Parameter(name="DIR")] = None, /, *, manifest: Path | None = None) -> int:
    """Compare every stored case in DIR.

    Args:
        folder: Case files (.safetensors).
        manifest: Folder of manifests (.json) of the released checkpoints.
    """
    console = Console(highlight=False, soft_wrap=True, markup=False)
    failed = 0
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
            for measured in run_case(read_case(path), check):
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
    console.print(f"{failed} failed" if failed else "all passed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(app(result_action="return_value"))
