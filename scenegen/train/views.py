"""Random views of one mesh, as a generator gets objects: a crop of a photo, its mask, its depth, what is behind.

An object stands on a floor or a table in front of a wall, among others that hide parts of it, and a photo is taken. Its crop is
rendered by the crop camera's own rays, which is what warping an infinitely fine photo would give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from scenegen.camera import crop_camera, intrinsics_from_fov, project, rays
from scenegen.errors import InputError
from scenegen.geometry.generator import ObjectView
from scenegen.records import CropCamera, Intrinsics
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
from scenegen.train.meshes import MeshFolder
from scenegen.train.shading import (
    Body,
    Setting,
    Surface,
    developed,
    lit,
    nearest,
    openness,
    smoothed_within,
    trace,
)

ATTEMPTS = 30
MORE_ATTEMPTS = 3
"""Cameras tried for each further view."""
LEAST_VISIBLE = 0.3
LEAST_PIXELS = 200
EXTENT = 110
"""Pixels that the object spans in the photo from which its mask is taken."""
SUBPIXELS = np.array([[-3, -1], [1, -3], [3, 1], [-1, 3]]) / 8
"""Positions of the rays of a pixel on an edge (rotated grid)."""
NEIGHBOURS = 3


@dataclass(frozen=True, eq=False)
class View:
    """One training view and its ground truth."""

    view: ObjectView
    crop_from_mesh: Float[np.ndarray, "4 4"]
    """A similarity from the mesh file's units to metres in the crop camera's frame."""
    mesh: int
    """Number of the mesh in its folder."""
    visible: float
    """Share of the object's whole silhouette that is seen, 0..1."""


@dataclass(frozen=True, eq=False)
class Camera:
    """Where a picture is taken from."""

    intrinsics: Intrinsics
    camera_from_world: Float[np.ndarray, "4 4"]
    """Rigid."""

    @property
    def centre(self) -> Float32[np.ndarray, "3"]:
        """Position of the camera in the world."""
        return (-self.camera_from_world[:3, :3].T @ self.camera_from_world[:3, 3]).astype(np.float32)

    @property
    def pixel(self) -> float:
        """Angle of a pixel, radians."""
        return 1 / self.intrinsics.fx

    def world_rays(self, pixels: Float[np.ndarray, "n 2"]) -> Float32[np.ndarray, "n 3"]:
        """Directions in the world through `pixels`, of z-depth 1."""
        return (rays(self.intrinsics, pixels) @ self.camera_from_world[:3, :3]).astype(np.float32)

    def turned(self, crop: CropCamera) -> Camera:
        """This camera, turned to be the crop camera."""
        turn = np.eye(4)
        turn[:3, :3] = np.array(crop.crop_from_camera)
        return Camera(crop.intrinsics, turn @ self.camera_from_world)


def view(meshes: MeshFolder, seed: int, size: int = 128) -> View:
    """A random view of a random mesh of `meshes`. The same arguments give the same view.

    Args:
        meshes: the object and what stands around it are taken from here.
        seed: random seed.
        size: side of the crop, pixels.

    Raises:
        InputError: if no draw shows enough of an object.
    """
    return views(meshes, seed, 1, size)[0]


def views(meshes: MeshFolder, seed: int, count: int, size: int = 128) -> list[View]:
    """Up to `count` random views of one object where it stands, the first of them that of `view`.

    Each has a camera of its own, anywhere around the object. There are fewer than `count` where walls and neighbours leave
    little to see.

    Args:
        meshes: the object and what stands around it are taken from here.
        seed: random seed.
        count: at least 1.
        size: side of the crops, pixels.

    Raises:
        InputError: if no draw shows enough of an object.
    """
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([seed, attempt])
        number = int(rng.integers(len(meshes)))
        setting, camera = _random_setting(meshes, number, rng)
        first = _view(setting, camera, number, size, rng)
        if first is None:
            continue
        found = [first]
        for _ in range(MORE_ATTEMPTS * (count - 1)):
            if len(found) == count:
                break
            camera = _random_camera(setting.bodies[0], rng)
            clear = all(_clear_of(camera, other) for other in setting.bodies[1:])
            further = _view(setting, camera, number, size, rng) if clear else None
            if further is not None:
                found.append(further)
        return found
    raise InputError(
        f"`meshes`: {ATTEMPTS} random views of {len(meshes)} meshes showed too little; give larger meshes."
    )


def _view(setting: Setting, camera: Camera, number: int, size: int, rng: np.random.Generator) -> View | None:
    """What `camera` sees of the first body, mesh `number`; None if that is too little."""
    mask, visible = _photo_mask(setting, camera)
    if visible < LEAST_VISIBLE or np.count_nonzero(mask) < LEAST_PIXELS:
        return None
    crop = crop_camera(camera.intrinsics, mask, size)
    return View(
        view=_crop_view(setting, camera, crop, rng),
        crop_from_mesh=camera.turned(crop).camera_from_world @ setting.bodies[0].world_from_mesh,
        mesh=number,
        visible=visible,
    )


def _clear_of(camera: Camera, body: Body) -> bool:
    """Whether the camera is well outside the body."""
    return bool(body.ball[1] < 0.8 * np.linalg.norm(camera.centre - body.ball[0]))


def _random_setting(meshes: MeshFolder, number: int, rng: np.random.Generator) -> tuple[Setting, Camera]:
    """The object (first of the bodies) on its support, with neighbours, and a camera that looks at it."""
    size = float(np.exp(rng.uniform(np.log(0.05), np.log(1.5))))
    body = resting(meshes[number], size, random_rotation(rng), rng)
    camera = _random_camera(body, rng)
    towards = camera.centre * [1, 0, 1] / np.linalg.norm(camera.centre[[0, 2]])
    bodies = [body]
    for _ in range(rng.integers(NEIGHBOURS + 1)):
        other = resting(meshes[int(rng.integers(len(meshes)))], size * rng.uniform(0.4, 1.6), random_rotation(rng), rng)
        placed = _beside(other, bodies, towards, rng)
        if placed is not None and _clear_of(camera, placed):
            bodies.append(placed)
    surfaces = _random_surfaces(bodies, camera, towards, size, rng)
    return Setting(bodies, surfaces, random_light(rng)), camera


def _random_camera(body: Body, rng: np.random.Generator) -> Camera:
    """A photo camera that shows the body's middle somewhere in its picture, about `EXTENT` pixels large."""
    fov = float(rng.uniform(20, 70))
    share = float(np.exp(rng.uniform(np.log(0.15), np.log(0.9))))
    width = round(EXTENT / share)
    height = round(width * rng.choice([0.75, 0.6667, 1.0]))
    if rng.random() < 0.3:
        width, height = height, width
    intrinsics = intrinsics_from_fov(width, height, fov)
    centre, radius = body.ball
    distance = radius / np.sin(min(np.arctan(EXTENT / 2 / intrinsics.fx), 0.9))
    elevation = np.radians(rng.uniform(-10, 60))
    # The camera stays above what carries the object.
    elevation = max(elevation, np.arcsin(np.clip((0.05 * distance - centre[1]) / distance, -1, 1)))
    azimuth = rng.uniform(0, 2 * np.pi)
    level = np.cos(elevation)
    place = centre + distance * np.array([level * np.cos(azimuth), np.sin(elevation), level * np.sin(azimuth)])
    reach = np.maximum(1 - EXTENT / np.array([width, height]), 0.05) / 2 + 0.1
    spot = (0.5 + rng.uniform(-1, 1, 2) * np.minimum(reach, 0.4)) * [width, height]
    looking = _rotation_to(centre - place, rays(intrinsics, spot), np.radians(rng.normal(0, 2)))
    matrix = np.eye(4)
    matrix[:3, :3] = looking
    matrix[:3, 3] = -looking @ place
    return Camera(intrinsics, matrix)


def _rotation_to(line: Float[np.ndarray, "3"], ray: Float[np.ndarray, "3"], roll: float) -> Float[np.ndarray, "3 3"]:
    """camera_from_world of a camera that sees the world direction `line` along its own `ray`, upright but for `roll`."""
    world = _upright(line)
    camera = _upright(ray * [1, -1, 1])  # a frame with y up, in which the camera looks along z
    turn = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1.0]])
    return np.diag([1.0, -1.0, 1.0]) @ camera.T @ np.diag([-1.0, 1, 1]) @ turn @ world


def _upright(direction: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """Rotation whose last row is `direction` and whose first is level (y up)."""
    z = direction / np.linalg.norm(direction)
    x = np.cross(UP, z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z])


def _beside(other: Body, bodies: list[Body], towards: Float[np.ndarray, "3"], rng: np.random.Generator) -> Body | None:
    """`other`, moved on the plane until its box is clear of those of `bodies`; None if that does not work out."""
    base = bodies[0].box
    reach = 0.5 * (np.linalg.norm(np.ptp(base, axis=0)[[0, 2]]) + np.linalg.norm(np.ptp(other.box, axis=0)[[0, 2]]))
    for _ in range(6):
        angle = np.arctan2(towards[2], towards[0]) + (rng.normal(0, 0.6) if rng.random() < 0.5 else rng.uniform(0, 6.3))
        step = reach * rng.uniform(0.6, 1.5) * np.array([np.cos(angle), 0, np.sin(angle)])
        box = other.box + step
        if all((box[0] > b.box[1]).any() or (box[1] < b.box[0]).any() for b in bodies):
            return moved(other, step)
    return None


def moved(body: Body, step: Float[np.ndarray, "3"]) -> Body:
    """The body, shifted in the world by `step` metres."""
    matrix = body.world_from_mesh.copy()
    matrix[:3, 3] += step
    return replace(body, world_from_mesh=matrix)


def _random_surfaces(
    bodies: list[Body], camera: Camera, towards: Float[np.ndarray, "3"], size: float, rng: np.random.Generator
) -> list[Surface]:
    """A floor or a table over a floor, and one or two walls behind the bodies."""
    low = np.min([body.box[0] for body in bodies], axis=0)
    high = np.max([body.box[1] for body in bodies], axis=0)
    behind = max(float(np.linalg.norm(body.ball[0][[0, 2]]) + body.ball[1]) for body in bodies)
    yaw = rng.uniform(0, np.pi)
    if rng.random() < 0.4:
        reach = np.maximum(high - low, size) * rng.uniform(0.55, 2.0)
        middle = (low + high) / 2 * [1, 0, 1]
        below = max(0.7, size) * rng.uniform(0.4, 1.2)
        top = horizontal(middle, (float(reach[0]), float(reach[2])), 0.0, random_texture(rng, size))
        surfaces = [top, *_aprons(top, 0.04 * below)]
        surfaces.append(horizontal(np.array([0, -below, 0]), (np.inf, np.inf), yaw, random_texture(rng, 3 * size)))
        behind = max(behind, float(np.linalg.norm(reach) + np.linalg.norm(middle)))
    else:
        surfaces = [horizontal(np.zeros(3), (np.inf, np.inf), yaw, random_texture(rng, size))]
    gap = size * np.exp(rng.uniform(np.log(0.02), np.log(12)))
    turn = rng.uniform(-0.7, 0.7)
    facing = np.array(
        [
            towards[0] * np.cos(turn) - towards[2] * np.sin(turn),
            0,
            towards[0] * np.sin(turn) + towards[2] * np.cos(turn),
        ]
    )
    surfaces.append(wall(-(behind + gap) * facing, facing, random_texture(rng, 2 * size)))
    if rng.random() < 0.25:
        aside = np.cross(UP, facing) * rng.choice([-1, 1])
        away = behind + size * rng.uniform(0.1, 4)
        # Behind the camera too, or the wall would hide everything.
        away = max(away, float(-(camera.centre @ aside)) + 0.5 * size)
        surfaces.append(wall(-away * aside, aside, random_texture(rng, 2 * size)))
    return surfaces


def _aprons(top: Surface, thickness: float) -> list[Surface]:
    """The four edges of a table top."""
    down = np.array([0, -thickness / 2, 0])
    sides = []
    for axis, other, half, length in (
        (top.across, top.along, top.half[0], top.half[1]),
        (top.along, top.across, top.half[1], top.half[0]),
    ):
        for sign in (-1, 1):
            sides.append(
                Surface(top.centre + sign * half * axis + down, other, UP, (length, thickness / 2), top.texture)
            )
    return sides


def _photo_mask(setting: Setting, camera: Camera) -> tuple[Bool[np.ndarray, "h w"], float]:
    """Where the photo shows the first body, and which share of its whole silhouette that is."""
    width, height = camera.intrinsics.width, camera.intrinsics.height
    mask = np.zeros((height, width), dtype=bool)
    corners = setting.bodies[0].corners @ camera.camera_from_world[:3, :3].T + camera.camera_from_world[:3, 3]
    if corners[:, 2].min() <= 0:
        return mask, 0.0
    seen = project(camera.intrinsics, corners)
    (x0, y0), (x1, y1) = np.floor(seen.min(axis=0)).astype(int), np.ceil(seen.max(axis=0)).astype(int)
    columns, rows = np.meshgrid(np.arange(x0, x1), np.arange(y0, y1))
    directions = camera.world_rays(np.stack([columns, rows], axis=-1).reshape(-1, 2) + 0.5)
    whole = _depths(setting.bodies[:1], camera.centre, directions)
    met = np.flatnonzero(np.isfinite(whole))
    others = _depths(setting.bodies[1:], camera.centre, directions[met])
    hidden = np.minimum(others, nearest(setting.surfaces, camera.centre, directions[met])[0]) < whole[met]
    row, column = rows.ravel()[met[~hidden]], columns.ravel()[met[~hidden]]
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    mask[row[inside], column[inside]] = True
    return mask, float(np.count_nonzero(inside) / max(len(met), 1))


def _depths(
    bodies: Sequence[Body], origin: Float32[np.ndarray, "3"], directions: Float32[np.ndarray, "n 3"]
) -> Float32[np.ndarray, "n"]:
    """Distance to the nearest body, in units of the directions; infinite for none."""
    depth = np.full(len(directions), np.inf, dtype=np.float32)
    for body in bodies:
        near = np.flatnonzero(body.near(origin[None], directions))
        if len(near):
            turn = body.mesh_from_world
            start = np.broadcast_to(turn[:3, :3] @ origin + turn[:3, 3], (len(near), 3))
            hits = body.mesh.caster.cast(start, directions[near] @ turn[:3, :3].T)
            depth[near] = np.minimum(depth[near], hits.distance)
    return depth


def _crop_view(setting: Setting, camera: Camera, crop: CropCamera, rng: np.random.Generator) -> ObjectView:
    """The first body through its crop camera; 0 in every picture outside the photo, as warping leaves it."""
    eye = camera.turned(crop)
    size = crop.intrinsics.width
    image, mask, depth = rendered(setting, eye, rng)
    centres = np.stack(np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5), axis=-1).reshape(-1, 2)
    directions = eye.world_rays(centres)
    limit = nearest(setting.surfaces, eye.centre, directions)[0].reshape(size, size)
    in_photo = project(camera.intrinsics, directions.astype(float) @ camera.camera_from_world[:3, :3].T)
    inside = ((in_photo >= 0) & (in_photo < [camera.intrinsics.width, camera.intrinsics.height])).all(axis=-1)
    inside = inside.reshape(size, size)
    picture: UInt8[np.ndarray, "s s 3"] = developed(image, random_exposure(rng), rng)
    return ObjectView(
        image=np.where(inside[..., None], picture, 0).astype(np.uint8),
        mask=np.where(inside, mask, 0).astype(np.float32),
        depth=np.where(inside & np.isfinite(depth), depth, 0).astype(np.float32),
        limit=np.where(inside & np.isfinite(limit), limit, 0).astype(np.float32),
        up=eye.camera_from_world[:3, 1].astype(np.float32),
        crop=crop,
    )


def rendered(
    setting: Setting, camera: Camera, rng: np.random.Generator
) -> tuple[Float32[np.ndarray, "h w 3"], Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
    """What `camera` sees: linear light, the share of each pixel the first body covers, and z-depth at the pixels' centres.

    Pixels on edges get four more samples.
    """
    width, height = camera.intrinsics.width, camera.intrinsics.height
    centres = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1).reshape(-1, 2)
    directions = camera.world_rays(centres)
    seen = trace(setting, camera.centre, directions, camera.pixel)
    lamp, sky = openness(setting, camera.centre, directions, seen, rng)
    owners = seen.owner.reshape(height, width)
    lamp = smoothed_within(lamp.reshape(height, width), owners, 0.6).ravel()
    sky = smoothed_within(sky.reshape(height, width), owners, 2.5).ravel()
    light = lit(setting, directions, seen, lamp, sky)
    cover = (seen.owner == 0).astype(np.float32)
    edge = np.flatnonzero(_edges(owners, seen.bent.reshape(height, width, 3)))
    if len(edge):
        more = camera.world_rays((centres[edge, None] + SUBPIXELS).reshape(-1, 2))
        finer = trace(setting, camera.centre, more, camera.pixel)
        shadow = openness(setting, camera.centre, more, finer, rng)[0]
        extra = lit(setting, more, finer, shadow, np.repeat(sky[edge], len(SUBPIXELS)))
        light[edge] = (light[edge] + extra.reshape(len(edge), -1, 3).sum(axis=1)) / (1 + len(SUBPIXELS))
        cover[edge] = (cover[edge] + (finer.owner == 0).reshape(len(edge), -1).sum(axis=1)) / (1 + len(SUBPIXELS))
    shape = (height, width)
    return light.reshape(*shape, 3), cover.reshape(shape), seen.distance.reshape(shape)


def _edges(owners: np.ndarray, normals: Float32[np.ndarray, "h w 3"]) -> Bool[np.ndarray, "h w"]:
    """Pixels that show something else than their right or lower neighbour, and those neighbours."""
    edges = np.zeros(owners.shape, dtype=bool)
    for axis in (0, 1):
        first = (slice(None, -1), slice(None)) if axis == 0 else (slice(None), slice(None, -1))
        second = (slice(1, None), slice(None)) if axis == 0 else (slice(None), slice(1, None))
        differs = (owners[first] != owners[second]) | ((normals[first] * normals[second]).sum(axis=-1) < 0.8)
        edges[first] |= differs
        edges[second] |= differs
    return edges
