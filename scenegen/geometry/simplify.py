"""Fewer triangles, still closed.

Edges are collapsed by quadric error (Garland and Heckbert 1997), fast and in little memory, but with no promise of a manifold.
Where the result is none, or the shape is lost, manifold3d simplifies the mesh instead, and keeps it closed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float32, Int32

from scenegen.geometry.solid import connected, untouching, volume, without_crumbs
from scenegen.messages.remarks import note

if TYPE_CHECKING:
    import manifold3d

logger = logging.getLogger(__name__)

SHRUNK = 0.02
"""A thinned solid keeps its volume to this share, or its shape is lost."""
AGGRESSIVENESS = 5.0
"""How fast the error that is tolerated grows from pass to pass while it is; 7 takes half the time and twice the error."""
FINEST, COARSEST, STEP = 1e-3, 2e-2, 1.5
"""Tolerances tried, as shares of the mesh's size, each `STEP` times the one before."""
NEAR, TRIES = 0.95, 12
"""A step that ends below this share of the budget is made finer, with at most so many tolerances tried."""
_ONE_AT_A_TIME = threading.Lock()
"""fast_simplification keeps its mesh in global variables, and lets other threads run meanwhile."""


def simplify(
    vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"], max_faces: int
) -> tuple[Float32[np.ndarray, "w 3"], Int32[np.ndarray, "g 3"], tuple[str, ...]]:
    """Collapses edges of a closed mesh until it has `max_faces`, or few less, or would lose its shape.

    It stays closed: every edge has exactly two faces. Where a neck or a tunnel is pinched off, vertices at one place are left,
    and crumbs: the former are drawn apart (`untouching`), the latter go (`without_crumbs`).

    Returns:
        - **vertices**, **faces**: the simplified mesh, or the given one if it is not a closed manifold.
        - **warnings**: says so in that case, and if the shape ends above the budget.
    """
    import manifold3d  # here, so that training needs no native package for meshes

    vertices = vertices.astype(np.float32)
    if len(faces) <= max_faces:
        return *untouching(vertices, faces), ()
    pieces = connected(faces)[0]
    points, few = untouching(*thinned(vertices, faces, max_faces))
    before = volume(vertices, faces)
    kept = abs(volume(points, few) - before) <= SHRUNK * abs(before)
    if len(few) <= max_faces and kept and is_manifold(points, few):
        return *without_crumbs(points, few, pieces), ()
    logger.info("thinned, the mesh of %d faces is open or another: manifold3d simplifies it instead", len(faces))
    solid = manifold3d.Manifold(manifold3d.Mesh(vertices, faces.astype(np.uint32)))
    if solid.status() != manifold3d.Error.NoError:
        return vertices, faces, (f"the mesh is not a closed manifold, so it keeps all its {len(faces)} faces.",)
    size = float(np.ptp(vertices, axis=0).max())
    solid, warnings = within_budget(solid, lambda tried: tried.num_tri(), max_faces, size)
    mesh = solid.to_mesh()
    fewer = untouching(mesh.vert_properties[:, :3].astype(np.float32), mesh.tri_verts.astype(np.int32))
    return *without_crumbs(*fewer, pieces), warnings


def thinned(
    vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"], faces_left: int
) -> tuple[Float32[np.ndarray, "w 3"], Int32[np.ndarray, "g 3"]]:
    """About `faces_left` of the faces of a mesh whose faces are turned alike, by quadric error. Boundaries lose vertices too, but
    stay where they are, to about the width of a face.

    A closed mesh usually stays closed; see whether it has. Parts of it may come to touch.
    """
    import fast_simplification  # here, so that training needs no native package for meshes

    with _ONE_AT_A_TIME:
        points, fewer = fast_simplification.simplify(
            vertices.astype(np.float32), faces.astype(np.int32), target_count=faces_left, agg=AGGRESSIVENESS
        )
    return np.asarray(points, dtype=np.float32), np.asarray(fewer, dtype=np.int32)


def is_manifold(vertices: Float32[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"]) -> bool:
    """Whether a mesh is what manifold3d takes: each edge is run along once each way."""
    import manifold3d

    return manifold3d.Manifold(manifold3d.Mesh(vertices, faces.astype(np.uint32))).status() == manifold3d.Error.NoError


def within_budget(
    solid: manifold3d.Manifold, count: Callable[[manifold3d.Manifold], int], max_faces: int, size: float
) -> tuple[manifold3d.Manifold, tuple[str, ...]]:
    """Simplifies at growing tolerance until few enough faces are left, then makes the last step finer.

    Many small steps keep the shape better than one large step to the same number. The last one is searched for the
    tolerance at which the mesh ends near the budget; if flat parts collapse at once, at any tolerance, it ends below.

    Args:
        solid: the mesh.
        count: how many faces of a mesh count against the budget.
        max_faces: the budget.
        size: of the mesh, which tolerances are shares of.

    Returns:
        - **solid**: with at most `max_faces`, unless even `COARSEST` leaves more.
        - **warnings**: says so in that case.
    """
    fine, coarse = FINEST / 100, FINEST
    while count(solid) > max_faces:
        if coarse > COARSEST:
            return solid, (
                note(f"the mesh keeps {count(solid)} faces, because with {max_faces} it would lose its shape."),
            )
        tried = solid.simplify(coarse * size)
        if count(tried) <= max_faces:
            return _nearest_step(solid, tried, count, max_faces, (fine * size, coarse * size)), ()
        solid, fine, coarse = tried, coarse, coarse * STEP
    return solid, ()


def _nearest_step(
    solid: manifold3d.Manifold,
    enough: manifold3d.Manifold,
    count: Callable[[manifold3d.Manifold], int],
    max_faces: int,
    tolerances: tuple[float, float],
) -> manifold3d.Manifold:
    """The finest step from `solid` found within the budget; `enough` is that at the coarser of `tolerances`."""
    fine, coarse = np.log(tolerances)
    many, few, wanted = (np.log(max(number, 1)) for number in (count(solid), count(enough), (1 + NEAR) / 2 * max_faces))
    for _ in range(TRIES):
        if count(enough) >= NEAR * max_faces:
            break
        # The number of faces falls about as a power of the tolerance.
        middle = fine + (coarse - fine) * np.clip((many - wanted) / (many - few), 0.1, 0.9)
        tried = solid.simplify(float(np.exp(middle)))
        number = np.log(max(count(tried), 1))
        if count(tried) <= max_faces:
            enough, coarse, few = tried, middle, number
        else:
            fine, many = middle, number
    return enough
