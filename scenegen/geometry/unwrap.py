"""UV atlases: from xatlas in a child process, or a plain atlas with one cell per face for meshes on which xatlas fails.

xatlas can hang or crash on odd meshes, and neither must end the scene. Only failures that depend on the mesh alone lead to
the plain atlas. Those from time, memory or a lost process are errors, since the next run may succeed.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int32

from scenegen.errors import CrashError, LimitError, TransientError
from scenegen.geometry.unwrap_child import REFUSED
from scenegen.messages.remarks import note
from scenegen.system.processes import child_lifeline, ending

CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from scenegen.geometry.unwrap_child import answer
answer(int(sys.argv[2]), int(sys.argv[3]))
"""
"""`-P` and this path keep modules of the user's folder out, and find the package wherever it was imported from."""
MOST_FACES = 200_000
"""Above it xatlas takes many minutes: its time grows faster than the number of faces."""
CRASHES = frozenset(
    {-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGFPE, -signal.SIGILL}
    | {0xC0000005, 0xC00000FD, 0xC0000409, 0xC000001D, 0xC0000094}
)
"""Exit codes of a child that its own code brings about: signals, and what Windows has in place of them."""


@dataclass(frozen=True, eq=False)
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

    It comes from xatlas; if that crashes, returns nonsense or would get too many faces, from `face_atlas`, with a warning.

    Raises:
        LimitError: if it takes longer than `timeout_s`.
        CrashError: if its process is killed.
        TransientError: if no process can be started.
    """
    if len(faces) > MOST_FACES:
        return _plain(faces, f"was not tried on {len(faces)} faces (at most {MOST_FACES})")
    child = _xatlas_child(vertices, faces, texels, timeout_s)
    reason = (child.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
    if child.returncode in CRASHES:
        return _plain(faces, f"crashed ({ending(child.returncode)})")
    if child.returncode == REFUSED:
        return _plain(faces, f"failed ({reason})")
    if child.returncode:
        raise CrashError(
            f"UV unwrapping ended with {ending(child.returncode)} ({reason}), perhaps for lack of memory; run again."
        )
    with np.load(io.BytesIO(child.stdout), allow_pickle=False) as data:
        atlas = Atlas(data["source"], data["faces"], data["uv"])
    return atlas if _matches(atlas, len(vertices), len(faces)) else _plain(faces, "gave an atlas of another mesh")


def _xatlas_child(
    vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"], texels: int, timeout_s: float
) -> subprocess.CompletedProcess[bytes]:
    """Runs `unwrap_child.answer` in its own process, which ends with this one."""
    mesh = io.BytesIO()
    np.savez(mesh, vertices=vertices.astype(np.float32), faces=faces.astype(np.uint32), texels=texels)
    cpu_s = int(timeout_s * (os.cpu_count() or 1)) + 1
    command = [sys.executable, "-P", "-c", CHILD, str(Path(__file__).parents[2])]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # it needs none, and they take a while to start
    try:
        with child_lifeline() as (lifeline, options):
            words = [*command, str(lifeline), str(cpu_s)]
            return subprocess.run(
                words,
                input=mesh.getbuffer(),
                capture_output=True,
                env=environment,
                timeout=timeout_s,
                check=False,
                **options,
            )
    except subprocess.TimeoutExpired as error:
        raise LimitError(
            f"UV unwrapping of {len(faces)} faces took more than {timeout_s:g} s; lower generate.max_faces or, on a slow "
            "machine, raise texture.unwrap_timeout_s."
        ) from error
    except OSError as error:
        raise TransientError(
            f"cannot start a process for UV unwrapping: {error.strerror}; free memory or stop other processes."
        ) from error


def _plain(faces: Int32[np.ndarray, "f 3"], problem: str) -> Atlas:
    plain = face_atlas(faces)
    warning = note(f"UV unwrapping {problem}, so every face has its own cell in the atlas.")
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


def _matches(atlas: Atlas, vertices: int, faces: int) -> bool:
    return bool(
        len(atlas.faces) == faces
        and np.isfinite(atlas.uv).all()
        and atlas.source.max(initial=0) < vertices
        and atlas.faces.max(initial=0) < len(atlas.uv)
    )
