"""Whether made scenes, and the true ones beside them, stay as they are under gravity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from scenegen.camera import transform
from scenegen.evaluate.ground_truth import FLOOR, TrueScene
from scenegen.evaluate.record import SettleScores
from scenegen.export.bodies import body_of, settled
from scenegen.export.parts import PartScene
from scenegen.physics.rigid import placed, rigid
from scenegen.physics.settle import Placed, settle
from scenegen.records import Settled


def settle_scores(
    made: PartScene | None, ids: Sequence[int], true: TrueScene, made_of: Mapping[int, int], density: float, hulls: int
) -> SettleScores:
    """Shares of objects that stay, among the made ones and among the true ones.

    Args:
        made: the made scene, from `scenegen.export.bodies.with_bodies`; None if nothing was made.
        ids: of its objects, in their order.
        true: what is true.
        made_of: the made object of each true one that has one, by id.
        density: of the true objects of which no density is known by their category.
        hulls: most convex parts that one of them collides with.

    Raises:
        WeightsError: if MuJoCo is not installed.
    """
    objects = () if made is None else made.objects
    found = {} if made is None else dict(zip(ids, settled(made), strict=True))
    wanted = _settled(_true_bodies(true, density, hulls))
    free = {number for number, part in zip(ids, objects, strict=True) if not body_of(part).held}
    stays = {number for number in free if found[number].stays}
    steady = [number for number, item in wanted.items() if item.stays]
    return SettleScores(
        made=len(stays) / len(objects) if objects else 0.0,
        held=1 - len(free) / len(objects) if objects else 0.0,
        true=len(steady) / len(wanted) if wanted else None,
        of_true=sum(made_of.get(number) in stays for number in steady) / len(steady) if steady else None,
        penetration_m=max((item.penetration_m for item in found.values()), default=0.0),
    )


def _settled(bodies: Mapping[int, Placed]) -> dict[int, Settled]:
    results: Sequence[Settled] = settle(list(bodies.values())) if bodies else ()
    return dict(zip(bodies, results, strict=True))


def _true_bodies(true: TrueScene, density: float, hulls: int) -> dict[int, Placed]:
    """In the true world, moved so that what stands on the floor does so at height 0."""
    corners = {number: transform(true.world_from_camera, mesh.vertices) for number, mesh in true.meshes.items()}
    standing = [float(corners[item.id][:, 1].min()) for item in true.objects if item.support == FLOOR]
    lift = np.eye(4)
    lift[1, 3] = -min(standing, default=0.0)
    return {
        item.id: placed(
            rigid(
                corners[item.id].astype(np.float32),
                true.meshes[item.id].faces.astype(np.int32),
                item.category,
                held=False,
                density=density,
                hulls=hulls,
            ),
            lift,
        )
        for item in true.objects
    }
