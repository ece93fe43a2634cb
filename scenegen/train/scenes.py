"""Composed scenes for the training of the perception network: meshes on tables, on floors, in rooms, on and before each other.

A scene is one photo with exact ground truth, written in the layout that `scenegen.train.pictures` reads. Everything is
drawn from one number, so that a set of scenes can be made in parts and comes out the same.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8, UInt16

from scenegen.camera import intrinsics_from_fov, rays
from scenegen.errors import InputError, UsageError
from scenegen.train.materials import (
    UP,
    horizontal,
    random_exposure,
    random_light,
    random_rotation,
    random_texture,
    resting,
    wall,
)
from scenegen.train.meshes import MeshFolder, mesh_folder
from scenegen.train.shading import Body, Setting, Surface, developed, trace
from scenegen.train.views import Camera, moved, rendered

logger = logging.getLogger(__name__)

SIDES = (384, 288)
"""Longer and shorter side of a picture."""
TALL_SHARE = 0.2
FOV_DEG = (20.0, 80.0)
"""Field of view along the longer side."""
ELEVATION_DEG = (-8.0, 60.0)
ATTEMPTS = 40
TRIES = 12
"""Places tried for one object."""
LEAST_SHARE = 0.004
"""Least share of the picture that the largest object covers."""
MOST_SHARE = 0.75
"""Largest share of the picture that objects cover together."""
DROP_GRID = 20
STACKED = 0.3
"""Share of the objects put onto others, if these can carry them."""
MAX_DEPTH_M = 65.0
"""What is farther counts as sky: 16 bits of millimetres hold no more."""


@dataclass(frozen=True)
class Kind:
    """What sort of place a scene shows."""

    size: tuple[float, float]
    """Longest sides of its objects, metres."""
    objects: tuple[int, int]
    """Least and largest number of objects."""
    crowding: tuple[float, float]
    """Radius of the area they stand on, in sizes of a typical object and roots of their number: small for piles."""
    table: bool
    walls: tuple[int, int]


KINDS = {
    "table": Kind(size=(0.06, 0.4), objects=(1, 10), crowding=(0.4, 1.1), table=True, walls=(0, 2)),
    "floor": Kind(size=(0.15, 1.0), objects=(1, 10), crowding=(0.5, 1.3), table=False, walls=(0, 2)),
    "room": Kind(size=(0.3, 1.5), objects=(3, 14), crowding=(0.5, 1.1), table=False, walls=(2, 3)),
    "pile": Kind(size=(0.05, 0.3), objects=(5, 14), crowding=(0.25, 0.55), table=False, walls=(0, 2)),
}


@dataclass(frozen=True, eq=False)
class Composed:
    """A picture and what is true of it."""

    kind: str
    image: UInt8[np.ndarray, "h w 3"]
    ids: UInt8[np.ndarray, "h w"]
    """0 for floors, tables, walls and sky."""
    depth: Float32[np.ndarray, "h w"]
    """z-depth in metres; infinite for the sky."""
    normals: Float32[np.ndarray, "h w 3"]
    """Unit, camera frame, towards the camera; 0 for the sky."""
    camera: Camera


def make_scenes(*, meshes: Path, out: Path, count: int, first: int = 0) -> None:
    """Compose training scenes from a folder of GLB files; existing scenes are kept.

    Parameters
    ----------
    meshes
        Folder of GLB files; those that an index.csv marks as heldout are not used.
    out
        Folder for the scenes, one subfolder each.
    count
        How many.
    first
        Number of the first scene, which is also its seed: several processes can make parts of one set.
    """
    if count < 1:
        raise UsageError(f"`count` is {count}; it must be at least 1.")
    folder = mesh_folder(meshes)
    for number in range(first, first + count):
        target = out / f"{number:06d}"
        if not (target / "camera.json").is_file():
            write_scene(compose(folder, number), target)
        if (number - first + 1) % 50 == 0:
            logger.info("%d of %d scenes", number - first + 1, count)


def write_scene(scene: Composed, folder: Path) -> None:
    """Writes the pictures and the camera; the folder appears whole or not at all."""
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    known = scene.depth < MAX_DEPTH_M
    depth: UInt16[np.ndarray, "h w"] = np.where(known, 1000 * np.where(known, scene.depth, 0) + 0.5, 0).astype(
        np.uint16
    )
    normals = (127 * scene.normals + 128.5).astype(np.uint8)
    for name, picture in (
        ("image.png", scene.image[..., ::-1]),
        ("masks.png", scene.ids),
        ("depth.png", depth),
        ("normals.png", normals[..., ::-1]),
    ):
        cv2.imwrite(str(partial / name), picture)
    intrinsics = scene.camera.intrinsics.model_dump()
    pose = np.linalg.inv(scene.camera.camera_from_world).tolist()
    (partial / "scene.json").write_text(json.dumps({"kind": scene.kind}), encoding="utf-8")
    (partial / "camera.json").write_text(json.dumps({**intrinsics, "camera_to_world": pose}), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def compose(meshes: MeshFolder, seed: int) -> Composed:
    """A random scene of random meshes. The same arguments give the same scene.

    Raises:
        InputError: if no draw shows an object well.
    """
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([seed, attempt])
        name = str(rng.choice(list(KINDS)))
        kind = KINDS[name]
        size = float(np.exp(rng.uniform(*np.log(kind.size))))
        bodies = _random_bodies(meshes, kind, size, rng)
        camera = _random_camera(bodies, rng)
        if camera is None:
            continue
        setting = Setting(bodies, _random_surfaces(bodies, camera, kind, size, rng), random_light(rng))
        scene = _pictured(name, setting, camera, rng)
        shares = np.bincount(scene.ids.ravel(), minlength=2)[1:] / scene.ids.size
        if shares.max() >= LEAST_SHARE and shares.sum() <= MOST_SHARE:
            return scene
    raise InputError(
        f"`meshes`: {ATTEMPTS} random scenes of {len(meshes)} meshes showed too little; give other meshes."
    )


def dropped(body: Body, others: Sequence[Body]) -> Body | None:
    """`body` let down from above at its place until it touches one of `others` or height 0; None if it would topple.

    Both are taken as height fields over a grid: the body as seen from below, what carries it as seen from above.
    """
    low, high = body.box
    below = [other for other in others if (other.box[1] > low)[[0, 2]].all() and (other.box[0] < high)[[0, 2]].all()]
    if not below:
        return moved(body, np.array([0, -low[1], 0]))
    steps = (np.arange(DROP_GRID) + 0.5) / DROP_GRID
    x, z = np.meshgrid(low[0] + (high[0] - low[0]) * steps, low[2] + (high[2] - low[2]) * steps)
    top = np.maximum.reduce([_heights(other, x.ravel(), z.ravel(), from_above=True) for other in below])
    underside = _heights(body, x.ravel(), z.ravel(), from_above=False)
    clearance = underside - np.maximum(top, 0)
    if not np.isfinite(clearance).any():
        return None
    fall = float(clearance.min())
    touching = clearance < fall + 0.03 * float(np.ptp(body.box, axis=0).max())
    spots = np.stack([x.ravel(), z.ravel()])[:, touching]
    middle = ((low + high) / 2)[[0, 2]]
    if (spots.min(axis=1) > middle).any() or (spots.max(axis=1) < middle).any():
        return None
    return moved(body, np.array([0, -fall, 0]))


def _heights(
    body: Body, x: Float[np.ndarray, "n"], z: Float[np.ndarray, "n"], from_above: bool
) -> Float[np.ndarray, "n"]:
    """Height of the body's first surface over the points of the ground; -inf (from above) or inf where there is none."""
    reach = 1.0 + float(np.abs(body.box).max())
    start = np.stack([x, np.full_like(x, reach if from_above else -reach), z], axis=1).astype(np.float32)
    down = np.array([0, -1.0 if from_above else 1.0, 0], np.float32)
    turn = body.mesh_from_world
    directions = np.broadcast_to(down @ turn[:3, :3].T, start.shape).astype(np.float32)
    distance = body.mesh.caster.cast(start @ turn[:3, :3].T + turn[:3, 3], directions).distance
    # A ray's length counts in units of its direction, so it is metres in the world as well.
    return reach - distance if from_above else distance - reach


def _random_bodies(meshes: MeshFolder, kind: Kind, size: float, rng: np.random.Generator) -> list[Body]:
    count = int(rng.integers(kind.objects[0], kind.objects[1] + 1))
    radius = size * float(rng.uniform(*kind.crowding)) * np.sqrt(count)
    piled = kind.crowding[1] < 0.6
    bodies: list[Body] = []
    for _ in range(count):
        mesh = meshes[int(rng.integers(len(meshes)))]
        body = resting(mesh, size * float(np.exp(rng.normal(0, 0.4))), random_rotation(rng), rng)
        for _ in range(TRIES):
            stacked = bool(bodies) and (piled or rng.random() < STACKED)
            if stacked and not piled:
                low, high = bodies[int(rng.integers(len(bodies)))].box
                spot = (low + high)[[0, 2]] / 2 + rng.normal(0, 0.15, 2) * (high - low)[[0, 2]]
            else:
                angle, away = rng.uniform(0, 2 * np.pi), radius * np.sqrt(rng.random())
                spot = away * np.array([np.cos(angle), np.sin(angle)])
            placed = moved(body, np.array([spot[0], 0, spot[1]]))
            if not stacked and any(_overlap(placed, other) for other in bodies):
                continue
            placed_or_none = dropped(placed, bodies)
            if placed_or_none is not None:
                bodies.append(placed_or_none)
                break
    return bodies


def _overlap(body: Body, other: Body) -> bool:
    """Whether their boxes overlap as seen from above."""
    apart = (body.box[0] > other.box[1]) | (body.box[1] < other.box[0])
    return not apart[[0, 2]].any()


def _random_camera(bodies: Sequence[Body], rng: np.random.Generator) -> Camera | None:
    """A camera that looks at the objects or past them; None if one of them is in its way."""
    width, height = SIDES if rng.random() >= TALL_SHARE else SIDES[::-1]
    fov = float(np.clip(rng.normal(52, 15), *FOV_DEG))
    focal = 0.5 * max(SIDES) / np.tan(np.radians(fov) / 2)
    intrinsics = intrinsics_from_fov(width, height, float(np.degrees(2 * np.arctan(width / 2 / focal))))
    balls = [body.ball for body in bodies]
    centre = np.mean([ball[0] for ball in balls], axis=0)
    spread = max(float(np.linalg.norm(ball[0] - centre)) + ball[1] for ball in balls)
    target = balls[int(rng.integers(len(balls)))][0] if rng.random() < 0.4 else centre
    distance = spread * float(np.exp(rng.uniform(np.log(0.45), np.log(1.2)))) / np.tan(np.arctan(height / 2 / focal))
    elevation = np.radians(rng.uniform(*ELEVATION_DEG))
    azimuth = rng.uniform(0, 2 * np.pi)
    level = np.cos(elevation)
    place = target + distance * np.array([level * np.cos(azimuth), np.sin(elevation), level * np.sin(azimuth)])
    place[1] = max(place[1], 0.04 * distance)
    if any(np.linalg.norm(ball[0] - place) < 1.15 * ball[1] for ball in balls):
        return None
    spot = (0.5 + np.clip(rng.normal(0, 0.12, 2), -0.3, 0.3)) * [width, height]
    return Camera(intrinsics, _pose(place, target, rays(intrinsics, spot), np.radians(rng.normal(0, 3))))


def _pose(
    place: Float[np.ndarray, "3"], target: Float[np.ndarray, "3"], ray: Float[np.ndarray, "3"], roll: float
) -> Float[np.ndarray, "4 4"]:
    """camera_from_world of a camera at `place` that sees `target` near its own `ray`, rolled by `roll` about its axis."""
    forward = (target - place) / np.linalg.norm(target - place)
    right = np.cross(forward, UP)
    right /= np.linalg.norm(right)
    looking = np.stack([right, np.cross(forward, right), forward])
    yaw, pitch = np.arctan(ray[0]), np.arctan(ray[1])
    turn = cv2.Rodrigues(np.array([-pitch, yaw, 0.0]))[0]
    rolled = cv2.Rodrigues(np.array([0.0, 0.0, roll]))[0]
    rotation = rolled @ turn @ looking
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = -rotation @ place
    return matrix


def _random_surfaces(
    bodies: Sequence[Body], camera: Camera, kind: Kind, size: float, rng: np.random.Generator
) -> list[Surface]:
    """The surface under the objects, the walls behind them, and flat things: rugs, cloths, posters."""
    low = np.min([body.box[0] for body in bodies], axis=0)
    high = np.max([body.box[1] for body in bodies], axis=0)
    middle, reach = (low + high) / 2 * [1, 0, 1], float(np.linalg.norm((high - low)[[0, 2]]) / 2)
    scale = size * float(np.exp(rng.normal(0, 0.5)))
    floor = 0.0
    surfaces = []
    if kind.table:
        half = (reach * float(rng.uniform(1.0, 2.5)), reach * float(rng.uniform(1.0, 2.5)))
        top = horizontal(middle, half, rng.uniform(0, np.pi), random_texture(rng, scale))
        floor = -float(rng.uniform(0.3, 0.9)) * max(1.0, size)
        surfaces += [top, *_edges_of(top, 0.02 + 0.05 * rng.random())]
    ground = horizontal(
        np.array([0, floor, 0]), (np.inf, np.inf), rng.uniform(0, np.pi), random_texture(rng, 2 * scale)
    )
    surfaces.append(ground)
    for _ in range(int(rng.integers(3))):
        half = (reach * float(rng.uniform(0.2, 1.0)), reach * float(rng.uniform(0.2, 1.0)))
        place = (
            middle
            + reach * rng.uniform(-1, 1, 3) * [1, 0, 1]
            + [0, 1e-3 * size + (floor if rng.random() < 0.5 else 0), 0]
        )
        if place[1] > 0 or not kind.table:
            surfaces.append(horizontal(place, half, rng.uniform(0, np.pi), random_texture(rng, 0.5 * scale)))
    eye = camera.centre.astype(float)
    ahead = camera.camera_from_world[2, :3] * [1, 0, 1]
    ahead /= max(float(np.linalg.norm(ahead)), 1e-6)
    for index in range(int(rng.integers(kind.walls[0], kind.walls[1] + 1))):
        turn = (rng.normal(0, 0.5), rng.normal(np.pi / 2, 0.4), rng.normal(-np.pi / 2, 0.4))[index]
        away = np.array(
            [ahead[0] * np.cos(turn) - ahead[2] * np.sin(turn), 0, ahead[0] * np.sin(turn) + ahead[2] * np.cos(turn)]
        )
        gap = size * float(np.exp(rng.uniform(np.log(0.05), np.log(8))))
        # Behind everything that stands there, and well behind the camera.
        behind = max(float(((body.corners - middle) @ away).max()) for body in bodies)
        distance = max(behind, float((eye - middle) @ away) + 0.5 * float(np.linalg.norm(eye - middle))) + gap
        foot = middle + distance * away
        surfaces.append(wall(foot, -away, random_texture(rng, 2 * scale)))
        for _ in range(int(rng.integers(3))):
            surfaces.append(_poster(foot - 1e-3 * size * away, -away, reach, scale, rng))
    return surfaces


def _poster(
    foot: Float[np.ndarray, "3"], facing: Float[np.ndarray, "3"], reach: float, scale: float, rng: np.random.Generator
) -> Surface:
    """A rectangle on a wall."""
    hung = wall(foot, facing, random_texture(rng, 0.5 * scale))
    place = foot + reach * (rng.normal(0, 1.2) * hung.across + rng.uniform(0.2, 2.0) * UP)
    half = (reach * float(rng.uniform(0.1, 0.7)), reach * float(rng.uniform(0.1, 0.7)))
    return replace(hung, centre=place, half=half)


def _edges_of(top: Surface, thickness: float) -> list[Surface]:
    """The four upright edges of a table top."""
    down = np.array([0, -thickness / 2, 0])
    return [
        Surface(top.centre + sign * half * outward + down, along, UP, (length, thickness / 2), top.texture)
        for outward, along, half, length in (
            (top.across, top.along, top.half[0], top.half[1]),
            (top.along, top.across, top.half[1], top.half[0]),
        )
        for sign in (-1, 1)
    ]


def _pictured(name: str, setting: Setting, camera: Camera, rng: np.random.Generator) -> Composed:
    width, height = camera.intrinsics.width, camera.intrinsics.height
    light, _, depth = rendered(setting, camera, rng)
    centres = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1).reshape(-1, 2)
    seen = trace(setting, camera.centre, camera.world_rays(centres), camera.pixel)
    sky = ~np.isfinite(depth)
    light[sky] = _sky(setting, camera, rng)[sky]
    normals = (seen.normal @ camera.camera_from_world[:3, :3].T.astype(np.float32)).reshape(height, width, 3)
    normals[sky] = 0
    return Composed(
        kind=name,
        image=developed(light, random_exposure(rng), rng),
        ids=(seen.owner + 1).reshape(height, width).astype(np.uint8),
        depth=depth,
        normals=normals,
        camera=camera,
    )


def _sky(setting: Setting, camera: Camera, rng: np.random.Generator) -> Float32[np.ndarray, "h w 3"]:
    """Light from where nothing is: brighter or darker towards the zenith."""
    directions = rays(camera.intrinsics) @ camera.camera_from_world[:3, :3]
    height = directions[..., 1] / np.linalg.norm(directions, axis=-1)
    zenith = setting.light.sky * np.exp(rng.normal(0, 0.4, 3))
    horizon = setting.light.sky * np.exp(rng.normal(0.2, 0.2))
    share = np.clip(height, 0, 1)[..., None] ** 0.5
    return (horizon + share * (zenith - horizon)).astype(np.float32)
