"""Lit pictures of meshes in a simple room: procedural materials, a lamp, a sky, and a camera's imperfections.

Everything is traced through flat lists of rays in the world frame (metres, Y up). Light is linear; only `developed` makes
sRGB of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, UInt8

from scenegen.train.meshes import ColoredMesh

NOISE_SIZE = 64
"""Lattice points along the edge of the noise tile."""
OCTAVES = 4
GLOSS = 30.0
"""Exponent of the highlights (Blinn 1977)."""
LIFT = 1e-4
"""How far secondary rays start from their surface, as a share of the distance from the camera."""
BOUNCE = 0.35
"""Light that comes back from an occluder, as a share of the open sky's."""


@dataclass(frozen=True, eq=False)
class Texture:
    """Colour of a flat surface: two colours in a pattern, and noise over it."""

    colors: Float[np.ndarray, "2 3"]
    """Linear albedo."""
    period: float
    """Period of the pattern, metres; 0 for none. Rows are shifted like planks by `shift` periods."""
    stretch: float
    """Length of a tile or plank over its width."""
    shift: float
    noise: Float32[np.ndarray, "s s"]
    """Values around 0 at a lattice that repeats."""
    noise_period: float
    """Lattice spacing of the coarsest octave, metres."""
    contrast: float
    """Contrast of the noise."""

    def __call__(
        self, at: Float32[np.ndarray, "n 2"], footprint: Float32[np.ndarray, "n"]
    ) -> Float32[np.ndarray, "n 3"]:
        """Linear albedo at `at`, metres; detail finer than `footprint`, metres, fades out."""
        share = np.full(len(at), 0.5, dtype=np.float32)
        if self.period > 0:
            row = np.floor(at[:, 1] / self.period)
            x = at[:, 0] / (self.period * self.stretch) + self.shift * row
            y = at[:, 1] / self.period
            if self.shift:  # planks: each its own shade
                lattice = len(self.noise)
                share = self.noise[row.astype(int) % lattice, np.floor(x).astype(int) % lattice] + 0.5
                share = np.clip(share, 0, 1)
            else:  # a chequerboard, as a product of square waves
                share = 0.5 + 0.5 * _square_wave(x, footprint / self.period) * _square_wave(y, footprint / self.period)
            blur = np.clip(footprint / self.period, 0, 1)
            share = share * (1 - blur) + 0.5 * blur
        albedo = self.colors[0] + share[:, None] * (self.colors[1] - self.colors[0])
        noise = np.zeros(len(at), dtype=np.float32)
        for octave in range(OCTAVES):
            spacing = self.noise_period / 2**octave
            weight = 0.6**octave * np.clip(spacing / np.maximum(2 * footprint, 1e-9) - 0.5, 0, 1)
            noise += weight * _noise_at(self.noise, at / spacing + 17.3 * octave)
        return np.clip(albedo * (1 + self.contrast * noise[:, None]), 0.005, 0.95).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Surface:
    """A flat background: a rectangle, or a whole plane if `half` is infinite."""

    centre: Float[np.ndarray, "3"]
    across: Float[np.ndarray, "3"]
    along: Float[np.ndarray, "3"]
    """Unit vectors in the surface, square to each other."""
    half: tuple[float, float]
    """Half the size across and along, metres."""
    texture: Texture

    @cached_property
    def normal(self) -> Float[np.ndarray, "3"]:
        """Unit, either way."""
        return np.cross(self.across, self.along)

    def cast(
        self, origins: Float32[np.ndarray, "#n 3"], directions: Float32[np.ndarray, "n 3"]
    ) -> Float32[np.ndarray, "n"]:
        """Distance in units of the direction; infinite where the rays miss."""
        normal = self.normal.astype(np.float32)
        slope = directions @ normal
        distance = ((self.centre.astype(np.float32) - origins) @ normal) / np.where(np.abs(slope) < 1e-9, 1e-9, slope)
        distance = np.where(distance > 1e-6, distance, np.inf)
        if np.isfinite(self.half).any():
            at = self.coordinates(origins + directions * np.where(np.isfinite(distance), distance, 0)[:, None])
            distance = np.where((np.abs(at) <= np.array(self.half, np.float32)).all(axis=1), distance, np.inf)
        return distance.astype(np.float32)

    def coordinates(self, points: Float32[np.ndarray, "n 3"]) -> Float32[np.ndarray, "n 2"]:
        """Metres across and along from the centre."""
        axes = np.stack([self.across, self.along], axis=1).astype(np.float32)
        return (points - self.centre.astype(np.float32)) @ axes


@dataclass(frozen=True, eq=False)
class Body:
    """A mesh somewhere in the world."""

    mesh: ColoredMesh
    world_from_mesh: Float[np.ndarray, "4 4"]
    """A similarity."""
    albedo: Float32[np.ndarray, "v 3"]
    """Linear colour of every vertex."""
    gloss: float
    """Strength of the highlights."""

    @cached_property
    def box(self) -> Float[np.ndarray, "2 3"]:
        """Smallest and largest world coordinates."""
        points = self.mesh.vertices @ self.world_from_mesh[:3, :3].T + self.world_from_mesh[:3, 3]
        return np.stack([points.min(axis=0), points.max(axis=0)])

    @cached_property
    def corners(self) -> Float[np.ndarray, "8 3"]:
        """Corners of the mesh's own bounding box, in the world."""
        ends = np.stack([self.mesh.low, self.mesh.high])
        picks = np.indices((2, 2, 2)).reshape(3, 8)
        local = np.stack([ends[picks[axis], axis] for axis in range(3)], axis=1)
        return local @ self.world_from_mesh[:3, :3].T + self.world_from_mesh[:3, 3]

    @cached_property
    def ball(self) -> tuple[Float[np.ndarray, "3"], float]:
        """Centre and radius of a ball around the body."""
        centre = self.corners.mean(axis=0)
        return centre, float(np.linalg.norm(self.corners - centre, axis=1).max())

    @cached_property
    def mesh_from_world(self) -> Float32[np.ndarray, "4 4"]:
        """Inverse of `world_from_mesh`."""
        return np.linalg.inv(self.world_from_mesh).astype(np.float32)

    def near(
        self, origins: Float32[np.ndarray, "#n 3"], directions: Float32[np.ndarray, "n 3"]
    ) -> Bool[np.ndarray, "n"]:
        """Which rays (unit directions or not) may meet the body: those that meet its ball."""
        centre, radius = self.ball
        to = centre.astype(np.float32) - origins
        along = np.einsum("nc,nc->n", np.broadcast_to(to, directions.shape), directions)
        square = np.einsum("nc,nc->n", directions, directions)
        apart = np.einsum("nc,nc->n", to, to)
        inside = apart < radius**2
        return ((along > 0) & ((apart - radius**2) * square < along**2)) | inside


@dataclass(frozen=True, eq=False)
class Light:
    """One lamp far away, and the sky."""

    direction: Float[np.ndarray, "3"]
    """Unit, towards the lamp."""
    spread: float
    """Radius of the lamp's disc, radians."""
    lamp: Float[np.ndarray, "3"]
    sky: Float[np.ndarray, "3"]
    """Linear colours. The sky's reaches what faces up; `ground` what faces down."""
    ground: Float[np.ndarray, "3"]


@dataclass(frozen=True)
class Setting:
    """All that can be seen."""

    bodies: Sequence[Body]
    surfaces: Sequence[Surface]
    light: Light


@dataclass(frozen=True, eq=False)
class Trace:
    """What each ray meets first."""

    distance: Float32[np.ndarray, "n"]
    """Distance in units of the direction; infinite where nothing is met."""
    owner: Int32[np.ndarray, "n"]
    """Number of the body; -1 for a surface or nothing."""
    normal: Float32[np.ndarray, "n 3"]
    """Unit, world frame, of the geometry, facing the ray's origin."""
    bent: Float32[np.ndarray, "n 3"]
    """The same, interpolated for shading."""
    albedo: Float32[np.ndarray, "n 3"]
    gloss: Float32[np.ndarray, "n"]


def nearest(
    surfaces: Sequence[Surface], origin: Float32[np.ndarray, "3"], directions: Float32[np.ndarray, "n 3"]
) -> tuple[Float32[np.ndarray, "n"], Int32[np.ndarray, "n"]]:
    """Distance (infinite for none) and number (-1 for none) of the first surface each ray meets."""
    distance = np.full(len(directions), np.inf, dtype=np.float32)
    number = np.full(len(directions), -1, dtype=np.int32)
    for index, surface in enumerate(surfaces):
        found = surface.cast(origin[None], directions)
        nearer = found < distance
        distance[nearer], number[nearer] = found[nearer], index
    return distance, number


def trace(
    setting: Setting, origin: Float32[np.ndarray, "3"], directions: Float32[np.ndarray, "n 3"], pixel: float
) -> Trace:
    """First hits of rays from one point.

    Args:
        setting: the world.
        origin: where the rays start.
        directions: any length.
        pixel: angle between neighbouring rays, radians, by which textures are smoothed.
    """
    count = len(directions)
    distance, number = nearest(setting.surfaces, origin, directions)
    owner = np.full(count, -1, dtype=np.int32)
    normal, albedo = np.zeros((count, 3), np.float32), np.zeros((count, 3), np.float32)
    gloss = np.zeros(count, np.float32)
    triangle, barycentric = np.full(count, -1, dtype=np.int32), np.zeros((count, 3), dtype=np.float32)
    for index, body in enumerate(setting.bodies):
        near = np.flatnonzero(body.near(origin[None], directions))
        if not len(near):
            continue
        turn = body.mesh_from_world
        start = np.broadcast_to(turn[:3, :3] @ origin + turn[:3, 3], (len(near), 3))
        hits = body.mesh.caster.cast(start, directions[near] @ turn[:3, :3].T)
        first = hits.distance < distance[near]
        rows = near[first]
        distance[rows], owner[rows] = hits.distance[first], index
        triangle[rows], barycentric[rows] = hits.triangle[first], hits.barycentric[first]
    for index, surface in enumerate(setting.surfaces):
        rows = np.flatnonzero((owner < 0) & (number == index))
        if not len(rows):
            continue
        step = distance[rows, None] * directions[rows]
        length = np.linalg.norm(step, axis=1)
        slope = np.abs(step @ surface.normal.astype(np.float32)) / length
        footprint = pixel * length / np.sqrt(np.maximum(slope, 0.02))
        albedo[rows] = surface.texture(surface.coordinates(origin + step), footprint)
        normal[rows] = surface.normal
    bent = normal.copy()
    for index, body in enumerate(setting.bodies):
        rows = np.flatnonzero(owner == index)
        if not len(rows):
            continue
        mesh, weights = body.mesh, barycentric[rows]
        albedo[rows] = np.einsum("nc,ncd->nd", weights, body.albedo[mesh.faces[triangle[rows]]])
        gloss[rows] = body.gloss
        turn = body.world_from_mesh[:3, :3] / np.cbrt(np.linalg.det(body.world_from_mesh[:3, :3]))
        turn = turn.astype(np.float32)
        normal[rows] = mesh.face_normals[triangle[rows]] @ turn.T
        bent[rows] = np.einsum("nc,ncd->nd", weights, mesh.corner_normals[triangle[rows]]) @ turn.T
    side = np.einsum("nc,nc->n", normal, directions)
    facing = np.where(side > 0, -1, 1).astype(np.float32)[:, None]
    normal *= facing
    bent *= facing
    bent /= np.maximum(np.linalg.norm(bent, axis=1, keepdims=True), 1e-9)
    return Trace(distance, owner, normal, bent, albedo, gloss)


def blocked(
    bodies: Sequence[Body], origins: Float32[np.ndarray, "n 3"], directions: Float32[np.ndarray, "n 3"]
) -> Bool[np.ndarray, "n"]:
    """Whether any body lies on the rays."""
    found = np.zeros(len(origins), dtype=bool)
    for body in bodies:
        rows = np.flatnonzero(~found & body.near(origins, directions))
        if len(rows):
            turn = body.mesh_from_world
            start = origins[rows] @ turn[:3, :3].T + turn[:3, 3]
            found[rows] = body.mesh.caster.blocked(start, directions[rows] @ turn[:3, :3].T)
    return found


def openness(
    setting: Setting,
    origin: Float32[np.ndarray, "3"],
    directions: Float32[np.ndarray, "n 3"],
    seen: Trace,
    rng: np.random.Generator,
) -> tuple[Float32[np.ndarray, "n"], Float32[np.ndarray, "n"]]:
    """One random sample per ray of how much of the lamp and of the sky reach what it met, 0..1."""
    met = np.flatnonzero(np.isfinite(seen.distance))
    lamp, sky = np.zeros(len(directions), np.float32), np.ones(len(directions), np.float32)
    step = seen.distance[met, None] * directions[met]
    points = origin + step + seen.normal[met] * (LIFT * np.linalg.norm(step, axis=1, keepdims=True))
    balls = rng.normal(size=(2, len(met), 3)).astype(np.float32)
    balls /= np.linalg.norm(balls, axis=-1, keepdims=True)
    towards = setting.light.direction.astype(np.float32) + setting.light.spread * balls[0]
    lit = np.einsum("nc,nc->n", seen.normal[met], towards) > 0
    lamp[met[lit]] = ~blocked(setting.bodies, points[lit], towards[lit])
    # Normal plus a point of the unit sphere: directions spread by the cosine.
    out = seen.normal[met] + 0.999 * balls[1]
    sky[met] = np.where(blocked(setting.bodies, points, out), BOUNCE, 1)
    return lamp, sky


def lit(
    setting: Setting,
    directions: Float32[np.ndarray, "n 3"],
    seen: Trace,
    lamp: Float32[np.ndarray, "n"],
    sky: Float32[np.ndarray, "n"],
) -> Float32[np.ndarray, "n 3"]:
    """Linear light along the rays: Lambert under the lamp and the sky, and the lamp's highlights."""
    light = setting.light
    towards = light.direction.astype(np.float32)
    lambert = np.maximum(seen.bent @ towards, 0) * lamp
    up = (0.5 + 0.5 * seen.bent[:, 1:2]) * (light.sky - light.ground) + light.ground
    half = towards - directions / np.linalg.norm(directions, axis=1, keepdims=True)
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    highlight = seen.gloss * lamp * np.maximum(np.einsum("nc,nc->n", seen.bent, half), 0) ** GLOSS
    light_in = lambert[:, None] * light.lamp + sky[:, None] * up
    return (seen.albedo * light_in + highlight[:, None] * light.lamp).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Exposure:
    """What a camera adds to the light."""

    brightness: float
    """Grey (linear) that the picture's mean becomes."""
    balance: Float[np.ndarray, "3"]
    """Gains of the channels."""
    blur: float
    """Standard deviation, pixels."""
    noise: float
    """Standard deviation at mid grey, of the range of sRGB."""
    quality: int
    """Quality of the JPEG it is stored as; 0 for none."""


def developed(
    light: Float32[np.ndarray, "h w 3"], exposure: Exposure, rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """Linear light as an sRGB picture."""
    gain = exposure.brightness / max(float(light.mean()), 1e-6)
    picture = light * (gain * exposure.balance).astype(np.float32)
    if exposure.blur > 0:
        picture = cv2.GaussianBlur(picture, (0, 0), exposure.blur)
    picture = srgb_from_linear(np.clip(picture, 0, 1))
    if exposure.noise > 0:
        picture += rng.normal(0, exposure.noise, picture.shape).astype(np.float32) * (0.5 + picture)
    result = np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8)
    if exposure.quality:
        _, data = cv2.imencode(".jpg", result[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, exposure.quality])
        result = np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])
    return result


def linear_from_srgb(values: UInt8[np.ndarray, "*n"]) -> Float32[np.ndarray, "*n"]:
    """IEC 61966-2-1, from bytes."""
    return _LINEAR[values]


def srgb_from_linear(values: Float32[np.ndarray, "*n"]) -> Float32[np.ndarray, "*n"]:
    """IEC 61966-2-1, 0..1 to 0..1."""
    return np.where(values <= 0.0031308, 12.92 * values, 1.055 * np.maximum(values, 1e-9) ** (1 / 2.4) - 0.055).astype(
        np.float32
    )


_STEPS = np.arange(256) / 255
_LINEAR = np.where(_STEPS <= 0.04045, _STEPS / 12.92, ((_STEPS + 0.055) / 1.055) ** 2.4).astype(np.float32)


def smoothed_within(
    values: Float32[np.ndarray, "h w"], owners: Int32[np.ndarray, "h w"], sigma: float
) -> Float32[np.ndarray, "h w"]:
    """Gaussian smoothing that does not cross from one owner to another."""
    result = values.copy()
    for owner in np.unique(owners):
        mine = owners == owner
        weight = cv2.GaussianBlur(mine.astype(np.float32), (0, 0), sigma)
        smooth = cv2.GaussianBlur(np.where(mine, values, 0).astype(np.float32), (0, 0), sigma)
        result[mine] = smooth[mine] / np.maximum(weight[mine], 1e-6)
    return result


def _square_wave(x: Float32[np.ndarray, "n"], width: Float32[np.ndarray, "n"]) -> Float32[np.ndarray, "n"]:
    """+-1 with period 2, its edges `width` wide."""
    triangle = 1 - np.abs(np.mod(x, 2) - 1) * 2
    return np.clip(triangle / np.maximum(width, 1e-3), -1, 1)


def _noise_at(tile: Float32[np.ndarray, "s s"], at: Float32[np.ndarray, "n 2"]) -> Float32[np.ndarray, "n"]:
    wrapped = np.mod(at, len(tile)).astype(np.float32)
    columns = 1024  # OpenCV maps to pictures of limited height
    padded = np.zeros((-(-len(at) // columns) * columns, 2), np.float32)
    padded[: len(at)] = wrapped
    grid = padded.reshape(-1, columns, 2)
    found = cv2.remap(tile, grid[..., 0], grid[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP)
    return found.reshape(-1)[: len(at)]
