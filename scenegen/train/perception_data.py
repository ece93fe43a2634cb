"""Pictures with exact depth, objects and camera, and how they are varied.

A folder of scenes has one subfolder per scene: `image.webp` or `image.png`; `masks.png`, object ids, 0 for background;
`depth.png`, z-depth in millimetres, 0 for none; and `camera.json` with fx, fy, cx, cy (pixel centre of the top-left pixel at
0.5, 0.5) and the 4x4 `camera_to_world` of an OpenCV camera in a world with Y up.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Float32, Int32, UInt8, UInt16

from scenegen.errors import InputError
from scenegen.perception.network import STRIDE

MILLIMETRE = 0.001
IMAGES = ("image.webp", "image.png")

ZOOM = (0.9, 1.7)
ROLL_DEG = 6.0
PAN = 0.12
"""Share of the field of view the view may turn beyond what the zoom leaves free."""
TALL_SHARE = 0.3
"""Of the batches that show portrait pictures."""


@dataclass(frozen=True, eq=False)
class TrainingScene:
    """One picture and what is true of it."""

    name: str
    image: UInt8[np.ndarray, "h w 3"]
    ids: UInt8[np.ndarray, "h w"]
    depth_mm: UInt16[np.ndarray, "h w"]
    """z-depth in millimetres, 0 where there is no surface."""
    camera: Float[np.ndarray, "3 3"]
    """K, pixels from camera coordinates."""
    down: Float[np.ndarray, "3"]
    """Unit vector of gravity in the camera's frame."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture as the network is shown it; the dense targets have a cell per `STRIDE` pixels."""

    image: UInt8[np.ndarray, "h w 3"]
    ids: Int32[np.ndarray, "h4 w4"]
    """-1 where nothing is known."""
    log_depth: Float32[np.ndarray, "h4 w4"]
    """-inf where nothing is known, +inf where there is no surface."""
    log_focal: float
    """Of the focal length over the picture's longer side."""
    down: Float32[np.ndarray, "3"]


@dataclass(frozen=True, eq=False)
class VariedCamera:
    """Another camera at a scene's place."""

    focal: float
    """In pixels of its picture."""
    source_from_view: Float[np.ndarray, "3 3"]
    """Rotation from its frame to that of the scene's camera."""


def read_scenes(folder: Path) -> list[TrainingScene]:
    """Every scene of a folder, in the order of their names, held in memory.

    Raises:
        InputError: where a file is missing or damaged, or there is no scene.
    """
    scenes = [_read_scene(entry) for entry in sorted(folder.iterdir()) if (entry / "camera.json").is_file()]
    if not scenes:
        raise InputError(
            f"`data` {folder} has no scene: no subfolder with a camera.json; see scenegen.train.perception_data."
        )
    return scenes


def vary(scene: TrainingScene, width: int, height: int, rng: np.random.Generator) -> Sample:
    """The scene through another camera at the same place, mirrored or not, with another tone and other faults.

    The camera is turned and zoomed exactly (a homography), so depth, field of view and gravity stay true. It sees the whole
    picture or a part of it, or a little beyond it; what is beyond is unknown.
    """
    camera = vary_camera(scene, width, height, rng)
    sample = seen_by(scene, camera.source_from_view, camera.focal, width, height)
    if rng.random() < 0.5:
        sample = Sample(
            image=sample.image[:, ::-1],
            ids=sample.ids[:, ::-1],
            log_depth=sample.log_depth[:, ::-1],
            log_focal=sample.log_focal,
            down=sample.down * np.array([-1, 1, 1], np.float32),
        )
    return Sample(
        image=with_other_tone(sample.image, rng),
        ids=sample.ids,
        log_depth=sample.log_depth,
        log_focal=sample.log_focal,
        down=sample.down,
    )


def vary_camera(scene: TrainingScene, width: int, height: int, rng: np.random.Generator) -> VariedCamera:
    """A camera at the scene's place for a picture of `width` x `height` pixels."""
    source_height, source_width = scene.ids.shape
    zoom = float(np.exp(rng.uniform(*np.log(ZOOM))))
    focal = scene.camera[0, 0] * max(width / source_width, height / source_height) * zoom
    free = np.maximum(1 - np.array([width, height]) / focal * scene.camera[0, 0] / [source_width, source_height], 0)
    pan, tilt = rng.uniform(-1, 1, 2) * (free / 2 + PAN * rng.random()) * np.array([source_width, source_height])
    roll = np.radians(np.clip(rng.normal(0, ROLL_DEG / 2), -ROLL_DEG, ROLL_DEG))
    angles = np.array([-np.arctan(tilt / scene.camera[1, 1]), np.arctan(pan / scene.camera[0, 0]), roll])
    source_from_view = cv2.Rodrigues(angles)[0]
    return VariedCamera(focal, source_from_view)


def seen_by(
    scene: TrainingScene, source_from_view: Float[np.ndarray, "3 3"], focal: float, width: int, height: int
) -> Sample:
    """The scene through a camera at the same place, of focal length `focal` in pixels, turned by `source_from_view`."""
    u, v, _ = _source_pixels(scene, source_from_view, focal, width, height, 1)
    image = cv2.remap(scene.image, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    u, v, forward = _source_pixels(scene, source_from_view, focal, width, height, STRIDE)
    known = (u >= -0.5) & (v >= -0.5) & (u < scene.ids.shape[1] - 0.5) & (v < scene.ids.shape[0] - 0.5)
    ids = cv2.remap(scene.ids, u, v, cv2.INTER_NEAREST).astype(np.int32)
    depth = cv2.remap(scene.depth_mm, u, v, cv2.INTER_NEAREST) * np.float32(MILLIMETRE)
    with np.errstate(divide="ignore"):
        log_depth = np.where(depth > 0, np.log(depth / forward), np.inf)
    return Sample(
        image=image,
        ids=np.where(known, ids, -1),
        log_depth=np.where(known, log_depth, -np.inf).astype(np.float32),
        log_focal=float(np.log(focal / max(width, height))),
        down=(source_from_view.T @ scene.down).astype(np.float32),
    )


def with_other_tone(image: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """The picture with other light, colours, sharpness, noise and compression.

    The faults are stronger than a good camera's: renders look more alike than photos do.
    """
    x = image.astype(np.float32) / 255
    if rng.random() < 0.3:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.3, 1.6))
    elif rng.random() < 0.3:
        x += rng.uniform(0.3, 1.5) * (x - cv2.GaussianBlur(x, (0, 0), 1.0))
    x = np.clip(x, 0, 1) ** float(np.exp(rng.normal(0, 0.3)))
    x *= np.exp(rng.normal(0, 0.2) + rng.normal(0, 0.1, 3)).astype(np.float32)
    grey = x @ np.array([0.299, 0.587, 0.114], np.float32)
    saturation = 0.0 if rng.random() < 0.08 else float(np.exp(rng.normal(0, 0.4)))
    x = grey[..., None] + saturation * (x - grey[..., None])
    x = (x - grey.mean()) * float(np.exp(rng.normal(0, 0.2))) + grey.mean() + rng.normal(0, 0.05)
    if rng.random() < 0.15:  # other hues: the colours of things say little about what they are
        x = x[..., rng.permutation(3)]
    if rng.random() < 0.3:
        x = _shaded(x, rng)
    if rng.random() < 0.5:
        noise = rng.normal(0, 1, x.shape).astype(np.float32)
        if rng.random() < 0.5:
            noise = 2 * cv2.GaussianBlur(noise, (0, 0), 0.8)
        x = x + noise * rng.uniform(0, 0.05)
    varied = (np.clip(x, 0, 1) * 255 + 0.5).astype(np.uint8)
    if rng.random() < 0.4:
        _, data = cv2.imencode(".jpg", varied, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))])
        varied = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return varied


def _shaded(x: Float32[np.ndarray, "h w 3"], rng: np.random.Generator) -> Float32[np.ndarray, "h w 3"]:
    """Light that falls off smoothly across the picture."""
    height, width = x.shape[:2]
    coarse = rng.normal(0, 0.25, (3, 3)).astype(np.float32)
    return x * np.exp(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))[..., None]


def _source_pixels(
    scene: TrainingScene,
    source_from_view: Float[np.ndarray, "3 3"],
    focal: float,
    width: int,
    height: int,
    step: int,
) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
    """Where each cell of `step` pixels looks in the source: u and v as OpenCV counts them (centres at integers), and the
    source's z of the view's ray of z 1."""
    x = ((np.arange(width // step) + 0.5) * step - width / 2) / focal
    y = ((np.arange(height // step) + 0.5) * step - height / 2) / focal
    rays = np.stack([*np.meshgrid(x, y), np.ones((len(y), len(x)))], axis=-1) @ source_from_view.T
    u = scene.camera[0, 0] * rays[..., 0] / rays[..., 2] + scene.camera[0, 2] - 0.5
    v = scene.camera[1, 1] * rays[..., 1] / rays[..., 2] + scene.camera[1, 2] - 0.5
    return u.astype(np.float32), v.astype(np.float32), rays[..., 2].astype(np.float32)


def _read_scene(folder: Path) -> TrainingScene:
    camera = json.loads((folder / "camera.json").read_text())
    present = [folder / name for name in IMAGES if (folder / name).is_file()]
    if not present:
        raise InputError(f"`data`: {folder} has neither of {', '.join(IMAGES)}.")
    image = _read(present[0], cv2.IMREAD_COLOR)[..., ::-1]
    world_from_camera = np.array(camera["camera_to_world"], float)
    return TrainingScene(
        name=folder.name,
        image=np.ascontiguousarray(image),
        ids=_read(folder / "masks.png", cv2.IMREAD_UNCHANGED),
        depth_mm=_read(folder / "depth.png", cv2.IMREAD_UNCHANGED),
        camera=np.array([[camera["fx"], 0, camera["cx"]], [0, camera["fy"], camera["cy"]], [0, 0, 1]], float),
        down=-world_from_camera[1, :3],
    )


def _read(path: Path, flags: int) -> np.ndarray:
    picture = cv2.imread(str(path), flags)
    if picture is None:
        raise InputError(f"`data`: {path} is no readable picture.")
    return picture
