"""UV atlases: xatlas in a child process that can be killed, and a plain one-face-one-cell atlas where it fails.

xatlas can hang or crash on odd meshes, and neither must take the scene down.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int32

from scenegen.remarks import note

CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from scenegen.remarks import note
from scenegen.geometry.unwrap import run_xatlas
run_xatlas(Path(sys.argv[2]), Path(sys.argv[3]))
"""
"""`-P` and this path keep modules of the user's folder out, and find the package wherever it was imported from."""


@dataclass(frozen=True)
class Atlas:
    """A mesh with its seams cut."""

    source: Int32[np.ndarray, "w"]
    """Index of the vertex each new vertex is a copy of."""
    faces: Int32[np.ndarray, "f 3"]
    uv: Float32[np.ndarray, "w 2"]
    """0..1, (0, 0) top left."""
    warnings: tuple[str, ...] = ()


def unwrap(vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"], texels: int, timeout_s: float) -> Atlas:
    """A UV atlas without overlaps, charts two texels apart at a size of `texels`.

    xatlas, given `timeout_s`; where it hangs, crashes or returns nonsense, `face_atlas`, with a warning.
    """
    with tempfile.TemporaryDirectory(prefix="scenegen-unwrap-") as folder:
        mesh, atlas = Path(folder) / "mesh.npz", Path(folder) / "atlas.npz"
        np.savez(mesh, vertices=vertices.astype(np.float32), faces=faces.astype(np.uint32), texels=texels)
        command = [sys.executable, "-P", "-c", CHILD, str(Path(__file__).parents[2]), str(mesh), str(atlas)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=timeout_s)
            with np.load(atlas, allow_pickle=False) as data:
                return _checked(Atlas(data["source"], data["faces"], data["uv"]), len(vertices), len(faces))
        except subprocess.TimeoutExpired:
            problem = f"did not finish in {timeout_s:g} s"
        except subprocess.CalledProcessError as error:
            reason = error.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
            problem = f"ended with code {error.returncode} ({reason[0]})"
        except (OSError, ValueError, KeyError) as error:
            problem = f"gave no usable atlas ({error})"
    warning = note(f"UV unwrapping {problem}: every face has its own cell in the atlas instead.")
    plain = face_atlas(faces)
    return Atlas(plain.source, plain.faces, plain.uv, (warning,))


def face_atlas(faces: Int32[np.ndarray, "f 3"]) -> Atlas:
    """An atlas for any mesh: two faces share a square cell, one half each, with a gap between them."""
    count = len(faces)
    side = int(np.ceil(np.sqrt((count + 1) // 2)))
    cell, second = np.divmod(np.arange(count), 2)
    corner = np.stack([cell % side, cell // side], axis=1)
    lower = np.array([[0.08, 0.08], [0.80, 0.08], [0.08, 0.80]])
    triangles = np.where(second[:, None, None] == 1, 1 - lower, lower)
    uv = (corner[:, None, :] + triangles) / side
    # Mirroring about the cell's middle keeps the turning sense of the triangle.
    return Atlas(
        faces.reshape(-1).astype(np.int32),
        np.arange(3 * count, dtype=np.int32).reshape(-1, 3),
        uv.reshape(-1, 2).astype(np.float32),
    )


def _checked(atlas: Atlas, vertices: int, faces: int) -> Atlas:
    sound = (
        len(atlas.faces) == faces
        and np.isfinite(atlas.uv).all()
        and atlas.source.max(initial=0) < vertices
        and atlas.faces.max(initial=0) < len(atlas.uv)
    )
    if not sound:
        raise ValueError("the atlas does not match the mesh")
    return atlas


def run_xatlas(mesh: Path, atlas: Path) -> None:
    """The child process's work: from `mesh` (npz) to `atlas` (npz)."""
    import xatlas

    with np.load(mesh, allow_pickle=False) as data:
        vertices, faces, texels = data["vertices"], data["faces"], int(data["texels"])
    charts, packing = xatlas.ChartOptions(), xatlas.PackOptions()
    charts.max_iterations = 1
    packing.padding = 2
    packing.resolution = texels
    packing.bilinear = True
    work = xatlas.Atlas()
    work.add_mesh(vertices, faces)
    work.generate(charts, packing)
    source, cut, uv = work[0]
    np.savez(atlas, source=source.astype(np.int32), faces=cut.astype(np.int32), uv=uv.astype(np.float32))
