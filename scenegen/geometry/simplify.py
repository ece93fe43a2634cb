"""Fewer triangles, still closed."""

from __future__ import annotations

import threading

import fast_simplification
import numpy as np
from jaxtyping import Float, Float32, Int32

# fast_simplification keeps its mesh in global variables and releases the GIL: two threads would mix their meshes.
_ONE_AT_A_TIME = threading.Lock()


def simplify(
    vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"], max_faces: int
) -> tuple[Float32[np.ndarray, "w 3"], Int32[np.ndarray, "g 3"], tuple[str, ...]]:
    """Quadric edge collapse (Garland and Heckbert 1997) to about `max_faces`; a closed mesh stays closed.

    Returns:
        - **vertices**, **faces**: the simplified mesh, or the one given where it would have opened.
        - **warnings**: says so in that case.
    """
    vertices = vertices.astype(np.float32)
    if len(faces) <= max_faces:
        return vertices, faces, ()
    with _ONE_AT_A_TIME:
        few, few_faces = fast_simplification.simplify(vertices, faces, target_reduction=1 - max_faces / len(faces))
    kept = without_flaps(few_faces.astype(np.int32))
    if is_closed(faces) and not is_closed(kept):
        return vertices, faces, (f"simplification would open the mesh: it keeps all {len(faces)} faces.",)
    used, kept = np.unique(kept, return_inverse=True)
    return few[used].astype(np.float32), kept.reshape(-1, 3).astype(np.int32), ()


def without_flaps(faces: Int32[np.ndarray, "f 3"]) -> Int32[np.ndarray, "g 3"]:
    """The faces without those that lie on one another: two triangles on the same corners enclose nothing."""
    _, group, count = np.unique(np.sort(faces, axis=1), axis=0, return_inverse=True, return_counts=True)
    return faces[count[group] == 1]


def is_closed(faces: Int32[np.ndarray, "f 3"]) -> bool:
    """Whether every directed edge is met by its opposite."""
    if len(faces) == 0:
        return False
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    stride = int(faces.max()) + 1
    forward = np.sort(edges[:, 0] * stride + edges[:, 1])
    backward = np.sort(edges[:, 1] * stride + edges[:, 0])
    return bool(np.array_equal(forward, backward))


def volume(vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"]) -> float:
    """Signed volume of a closed mesh; positive where the faces are counter-clockwise seen from outside."""
    a, b, c = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    return float(np.einsum("nd,nd->", a, np.cross(b, c)) / 6)
