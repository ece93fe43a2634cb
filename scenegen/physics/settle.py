"""Whether a scene stays as it is when gravity is switched on: simulated by MuJoCo (Todorov et al. 2012)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

from scenegen.camera import USD_FROM_WORLD, transform
from scenegen.physics.body import Body, Hull
from scenegen.records import Settled
from scenegen.weights_registry.needed import require_mujoco

SECONDS = 2.0
STEP_S = 0.001
MOST_TILTED_DEG, MOST_MOVED = 5.0, 0.05
"""What stays tilts by less than this, and moves by less than this share of the diagonal of its box."""
GRAVITY = 9.81
SPIN, ROLL = 0.005, 0.0001
"""Torsional and rolling friction, metres: MuJoCo's defaults."""


@dataclass(frozen=True, eq=False)
class Placed:
    """A body at its place in the world."""

    body: Body
    world_from_body: Float64[np.ndarray, "4 4"]
    """Rigid. World: metres, Y up, the floor at height 0."""
    mass: float
    friction: float
    fixed: bool = False
    """Whether it is held where it is, by something that is not in the scene."""


@dataclass(frozen=True, eq=False)
class Fixed:
    """Something that never moves."""

    hulls: tuple[Hull, ...]
    world_from_part: Float64[np.ndarray, "4 4"]
    """Rigid, as that of a body."""


def settle(bodies: Sequence[Placed], around: Sequence[Fixed] = (), seconds: float = SECONDS) -> tuple[Settled, ...]:
    """What becomes of bodies on an endless floor when they are let go, in their order.

    Args:
        bodies: at their places.
        around: what else they collide with.
        seconds: until they are looked at.

    Raises:
        WeightsError: if MuJoCo is not installed.

    Examples:
        >>> import trimesh
        >>> from scenegen.physics.body import body
        >>> box = trimesh.creation.box((0.1, 0.1, 0.1))
        >>> up = np.eye(4)
        >>> up[1, 3] = 0.05
        >>> cube = body(box.vertices.astype(np.float32), box.faces.astype(np.int32))
        >>> settle([Placed(cube, up, mass=1.0, friction=0.5)])[0].stays
        True
    """
    require_mujoco()
    import mujoco

    spec = mujoco.MjSpec()
    spec.option.timestep = STEP_S
    spec.option.gravity = [0, 0, -GRAVITY]
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1], friction=[1.0, SPIN, ROLL], priority=-1)
    for number, placed in enumerate(bodies):
        _add(mujoco, spec, placed, number)
    for number, fixed in enumerate(around):
        matrix = USD_FROM_WORLD @ fixed.world_from_part
        for index, part in enumerate(fixed.hulls):
            _add_geom(mujoco, spec, spec.worldbody, part, f"around.{number}.{index}", matrix, 1.0, priority=-1)
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    owner = model.geom_bodyid
    depth = np.zeros(model.nbody)
    for contact in data.contact:
        for geom in contact.geom:
            depth[owner[geom]] = max(depth[owner[geom]], -contact.dist)
    start, upright = data.xipos.copy(), data.xmat.reshape(-1, 3, 3).copy()
    for _ in range(round(seconds / STEP_S)):
        mujoco.mj_step(model, data)
    results = []
    for index, placed in enumerate(bodies, start=1):
        moved = float(np.linalg.norm(data.xipos[index] - start[index]))
        turn = data.xmat[index].reshape(3, 3) @ upright[index].T
        tilt = float(np.degrees(np.arccos(np.clip(turn[2, 2], -1, 1))))
        size = float(np.linalg.norm(np.ptp(_points(placed), axis=0)))
        results.append(
            Settled(
                displacement_m=round(moved, 5),
                tilt_deg=round(tilt, 2),
                penetration_m=round(float(depth[index]), 5),
                stays=tilt < MOST_TILTED_DEG and moved < MOST_MOVED * size,
            )
        )
    return tuple(results)


def _points(placed: Placed) -> Float64[np.ndarray, "n 3"]:
    points = np.concatenate([part.vertices for part in placed.body.hulls]).astype(np.float64)
    return np.asarray(points @ placed.world_from_body[:3, :3].T + placed.world_from_body[:3, 3])


def _add(mujoco: Any, spec: Any, placed: Placed, number: int) -> None:
    """The body with its origin at its centre of mass, so that small objects far away keep their precision."""
    turn = USD_FROM_WORLD[:3, :3] @ placed.world_from_body[:3, :3]
    middle = USD_FROM_WORLD[:3, :3] @ placed.world_from_body[:3, 3] + turn @ placed.body.centre_of_mass
    added = spec.worldbody.add_body(pos=middle.tolist())
    if not placed.fixed:
        added.add_freejoint()
    inertia = turn @ placed.body.inertia @ turn.T * placed.mass / placed.body.volume
    added.explicitinertial = True
    added.mass = placed.mass
    added.ipos = [0, 0, 0]
    added.fullinertia = inertia[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]].tolist()
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn, -turn @ placed.body.centre_of_mass
    for index, part in enumerate(placed.body.hulls):
        _add_geom(mujoco, spec, added, part, f"{number}.{index}", matrix, placed.friction)


def _add_geom(
    mujoco: Any,
    spec: Any,
    owner: Any,
    part: Hull,
    name: str,
    owner_from_part: Float64[np.ndarray, "4 4"],
    friction: float,
    priority: int = 0,
) -> None:
    touched = {"mass": 0.0, "friction": [friction, SPIN, ROLL], "priority": priority}
    if part.box is not None:
        turn = Rotation.from_matrix(owner_from_part[:3, :3] @ part.box.turn).as_quat(scalar_first=True)
        place = transform(owner_from_part, part.box.centre)
        half = part.box.size / 2
        owner.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX, pos=place.tolist(), quat=turn.tolist(), size=half.tolist(), **touched
        )
        return
    points = transform(owner_from_part, part.vertices.astype(np.float64))
    # The shell's inertia is never used, and unlike the volume's it exists for the thinnest parts.
    inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
    spec.add_mesh(name=name, uservert=points.ravel().tolist(), userface=part.faces.ravel().tolist(), inertia=inertia)
    owner.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname=name, **touched)
