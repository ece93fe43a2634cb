"""The child process of `unwrap`: reads a mesh (npz) from stdin, limits itself, and answers with its atlas (npz) on stdout.

Each object starts one, so it imports little: jaxtyping alone would take as long as NumPy.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

import numpy as np

from scenegen.system.limits import limit_process
from scenegen.system.processes import end_with

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt32

LARGEST_CHART = 0.05
"""Of a mesh's surface. To flatten larger charts takes several times as long, and they are seldom fewer."""
REFUSED = 3
"""Exit code of a child in which xatlas has raised an error."""


def answer(lifeline: int, cpu_s: int) -> None:
    """Answers once.

    Args:
        lifeline: from the parent's `child_lifeline`.
        cpu_s: most seconds of CPU time, of all threads together. They end the child if the lifeline cannot.
    """
    end_with(lifeline)
    limit_process(cpu_s)
    # Native code must not print into the answer.
    stdout = os.dup(1)
    os.dup2(2, 1)
    with np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False) as data:
        mesh = data["vertices"], data["faces"], int(data["texels"])
    try:
        atlas = run_xatlas(*mesh)
    except (RuntimeError, ValueError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}")
        sys.exit(REFUSED)
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **atlas)
    with os.fdopen(stdout, "wb") as pipe:
        pipe.write(packed.getbuffer())


def run_xatlas(
    vertices: Float32[np.ndarray, "v 3"], faces: UInt32[np.ndarray, "f 3"], texels: int
) -> dict[str, np.ndarray]:
    """The arrays of an `Atlas` by xatlas, in this process."""
    import xatlas

    charts, packing = xatlas.ChartOptions(), xatlas.PackOptions()
    charts.max_iterations = 1
    packing.padding = 2
    packing.resolution = texels
    packing.bilinear = True
    corners = vertices[faces.astype(np.int64)].astype(np.float64)
    doubled = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum()
    charts.max_chart_area = LARGEST_CHART * float(doubled) / 2
    work = xatlas.Atlas()
    work.add_mesh(vertices, faces)
    work.generate(charts, packing)
    source, cut, uv = work[0]
    return {"source": source.astype(np.int32), "faces": cut.astype(np.int32), "uv": uv.astype(np.float32)}
