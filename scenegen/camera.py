"""Pinhole cameras, crop cameras, and every frame conversion of the project, in one place.

Frames (all right-handed, metres, column vectors; `a_from_b` takes coordinates of b to coordinates of a):

- camera: OpenCV. x right, y down, z forward; the photo's camera is the origin.
- crop: the same, rotated about the camera's centre so that z passes through the middle of an object's crop.
- latent: the generator's cube [-0.5, 0.5]^3. x right, y up, z towards the camera.
- world: Y up, gravity-aligned, the floor at height 0. glTF uses it as it is.
- usd: Z up. x right, y away from the viewer, z up.

Pixels: (u, v), u right, v down, the centre of the top-left pixel at (0.5, 0.5).
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from jaxtyping import Bool, Float, Shaped

from scenegen.errors import InputError
from scenegen.records import CropCamera, Intrinsics, Matrix3, Matrix4, Vector

FRAME_35MM_WIDTH = 36.0

GLTF_CAMERA_FROM_CAMERA = np.diag([1.0, -1.0, -1.0, 1.0])
"""A glTF or USD camera looks down -Z with Y up; an OpenCV camera down +Z with Y down. The matrix is its own inverse."""

WIDEST_CROP_DEG = 150.0
"""Field of view of a crop. Beyond it a flat picture is hardly more than its stretched border."""
CENTRED = 1e-9
"""Angle in radians between a crop's axis and the middle of its object below which the search ends."""
CENTRING_STEPS = 60
UNREDUCED = 1.25
"""Most pixels of the photo per pixel of the crop for which linear interpolation alone does not alias."""
OUTSIDE = -1e6
"""A coordinate in pixels that no picture has."""
STRIP = 1 << 22
"""Number of samples taken at a time."""

USD_FROM_WORLD = np.array([[1.0, 0, 0, 0], [0, 0, -1.0, 0], [0, 1.0, 0, 0], [0, 0, 0, 1.0]])
"""Y up to Z up: a quarter turn about x."""


def intrinsics_from_fov(width: int, height: int, fov_x_deg: float) -> Intrinsics:
    """Intrinsics of a centred camera with square pixels and the horizontal field of view `fov_x_deg`, in degrees.

    Raises:
        InputError: unless 1 < `fov_x_deg` < 170.

    Examples:
        >>> intrinsics_from_fov(640, 480, 90).fx
        320.00000000000006
    """
    if not 1.0 < fov_x_deg < 170.0:
        raise InputError(
            f"`fov` is {fov_x_deg} degrees; it must be more than 1 and less than 170, measured horizontally."
        )
    focal = 0.5 * width / np.tan(np.radians(fov_x_deg) / 2)
    return Intrinsics(width=width, height=height, fx=focal, fy=focal, cx=width / 2, cy=height / 2)


def intrinsics_from_focal_35mm(width: int, height: int, focal_35mm: float) -> Intrinsics:
    """Intrinsics from a 35 mm equivalent focal length (EXIF), taken on the longer side of the picture.

    Examples:
        >>> intrinsics_from_focal_35mm(4000, 3000, focal_35mm=27).fx
        3000.0
    """
    focal = focal_35mm / FRAME_35MM_WIDTH * max(width, height)
    return Intrinsics(width=width, height=height, fx=focal, fy=focal, cx=width / 2, cy=height / 2)


def fov_x_deg(camera: Intrinsics) -> float:
    """Horizontal field of view in degrees, from the left border of the picture to the right one.

    Examples:
        >>> round(fov_x_deg(intrinsics_from_fov(640, 480, 54)), 6)
        54.0
        >>> round(fov_x_deg(Intrinsics(width=100, height=100, fx=100, fy=100, cx=0, cy=50)), 6)
        45.0
    """
    left, right = camera.cx / camera.fx, (camera.width - camera.cx) / camera.fx
    return float(np.degrees(np.arctan(left) + np.arctan(right)))


def check_size(camera: Intrinsics, image: Shaped[np.ndarray, "h w ..."]) -> None:
    """Refuses a camera that is not of the size of `image`.

    Raises:
        InputError: if it is of another size.

    Examples:
        >>> check_size(intrinsics_from_fov(640, 480, 60), np.zeros((480, 640, 3), np.uint8))
    """
    height, width = image.shape[:2]
    if (camera.width, camera.height) != (width, height):
        raise InputError(
            f"`camera` is for {camera.width}x{camera.height} pixels; it must be for {width}x{height}, the photo's size."
        )


def is_rotation(matrix: Float[np.ndarray, "3 3"], tolerance: float) -> bool:
    """Whether a matrix turns without scaling, shearing or mirroring.

    Args:
        matrix: any.
        tolerance: how far the products of its rows may be from those of a rotation.

    Examples:
        >>> is_rotation(np.eye(3), 1e-6), is_rotation(np.diag([1.0, 1.0, -1.0]), 1e-6)
        (True, False)
    """
    return bool(np.abs(matrix @ matrix.T - np.eye(3)).max() < tolerance and np.linalg.det(matrix) > 0)


def camera_matrix(camera: Intrinsics) -> Float[np.ndarray, "3 3"]:
    """K, from camera coordinates to pixels.

    Examples:
        >>> camera_matrix(Intrinsics(width=64, height=48, fx=50, fy=50, cx=32, cy=24)).tolist()
        [[50.0, 0.0, 32.0], [0.0, 50.0, 24.0], [0.0, 0.0, 1.0]]
    """
    return np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1.0]])


def pixel_centres(width: int, height: int) -> Float[np.ndarray, "height width 2"]:
    """(u, v) of every pixel's centre.

    Examples:
        >>> pixel_centres(width=2, height=1).tolist()
        [[[0.5, 0.5], [1.5, 0.5]]]
    """
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return np.stack([u, v], axis=-1)


def rays(camera: Intrinsics, pixels: Float[np.ndarray, "*n 2"] | None = None) -> Float[np.ndarray, "*n 3"]:
    """Ray directions with z = 1 through `pixels`, or through every pixel's centre ([height, width, 3]).

    Examples:
        >>> camera = Intrinsics(width=64, height=48, fx=50, fy=50, cx=32, cy=24)
        >>> rays(camera, np.array([82.0, 24.0])).tolist()
        [1.0, 0.0, 1.0]
        >>> rays(camera).shape
        (48, 64, 3)
    """
    if pixels is None:
        u, v = np.arange(camera.width) + 0.5, np.arange(camera.height)[:, None] + 0.5
    else:
        u, v = pixels[..., 0], pixels[..., 1]
    x, y = (u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy
    directions = np.ones((*np.broadcast_shapes(x.shape, y.shape), 3))
    directions[..., 0], directions[..., 1] = x, y
    return directions


def unproject(camera: Intrinsics, depth: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w 3"]:
    """Points in the camera frame of a z-depth map.

    Examples:
        >>> camera = Intrinsics(width=3, height=3, fx=2, fy=2, cx=1.5, cy=1.5)
        >>> unproject(camera, np.full((3, 3), 4.0))[1, 1].tolist()
        [0.0, 0.0, 4.0]
    """
    return rays(camera) * depth[..., None]


def project(camera: Intrinsics, points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 2"]:
    """Pixels (u, v) of points in the camera frame, which must lie in front of the camera (z > 0).

    Examples:
        >>> camera = Intrinsics(width=64, height=48, fx=50, fy=50, cx=32, cy=24)
        >>> project(camera, np.array([1.0, 0.0, 2.0])).tolist()
        [57.0, 24.0]
    """
    z = points[..., 2]
    return np.stack([camera.fx * points[..., 0] / z + camera.cx, camera.fy * points[..., 1] / z + camera.cy], axis=-1)


def resized(camera: Intrinsics, width: int, height: int) -> Intrinsics:
    """The same camera with its picture resampled to `width` x `height`.

    Examples:
        >>> resized(Intrinsics(width=64, height=48, fx=50, fy=50, cx=32, cy=24), 128, 96).fx
        100.0
    """
    sx, sy = width / camera.width, height / camera.height
    return Intrinsics(
        width=width,
        height=height,
        fx=camera.fx * sx,
        fy=camera.fy * sy,
        cx=camera.cx * sx,
        cy=camera.cy * sy,
    )


def padded(camera: Intrinsics, pad: int) -> Intrinsics:
    """The same camera with `pad` more pixels on each side of its picture.

    Examples:
        >>> wide = padded(Intrinsics(width=64, height=48, fx=50, fy=50, cx=32, cy=24), 8)
        >>> wide.width, wide.height, wide.cx, wide.cy
        (80, 64, 40.0, 32.0)
    """
    return camera.model_copy(
        update={
            "width": camera.width + 2 * pad,
            "height": camera.height + 2 * pad,
            "cx": camera.cx + pad,
            "cy": camera.cy + pad,
        }
    )


def rotation_to_axis(direction: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """Rotation that takes `direction` to +z and keeps the picture's horizontal: its x axis stays in the x-z plane.

    Examples:
        >>> np.round(rotation_to_axis(np.array([1.0, 0.0, 1.0])) @ [1, 0, 1], 6).tolist()
        [0.0, 0.0, 1.414214]
    """
    z = direction / np.linalg.norm(direction)
    x = np.cross([0.0, 1.0, 0.0], z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z])


def crop_camera(camera: Intrinsics, mask: Bool[np.ndarray, "h w"], size: int, margin: float = 1.1) -> CropCamera:
    """The crop camera of the object in `mask`: centred on it, square, `size` pixels wide, with `margin` times its extent.

    The axis goes through the centre of the mask's bounding box as the rotated camera sees it, found by a fixed point
    iteration on the angles of the box's sides, because rotating the camera changes the box.

    Raises:
        InputError: if the mask is empty, has another size than the camera's picture, or needs a crop wider than
            `WIDEST_CROP_DEG`.

    Examples:
        >>> mask = np.zeros((48, 64), dtype=bool)
        >>> mask[10:20, 40:50] = True
        >>> crop = crop_camera(intrinsics_from_fov(64, 48, 60), mask, size=32)
        >>> crop.intrinsics.width, crop.intrinsics.cx
        (32, 16.0)
    """
    if mask.shape != (camera.height, camera.width):
        raise InputError(
            f"`mask` is {mask.shape[1]}x{mask.shape[0]}; it must be {camera.width}x{camera.height}, the photo's size."
        )
    v, u = np.nonzero(mask)
    if len(u) == 0:
        raise InputError("`mask` is empty; an object needs at least one pixel.")
    # Only the extremes of each row matter for the box, and pixels have an extent: use their outer corners.
    rows, first = np.unique(v, return_index=True)
    last = np.append(first[1:], len(v)) - 1
    corners = np.concatenate(
        [np.stack([u[first] + du, rows + dv], -1) for du, dv in ((0, 0), (0, 1))]
        + [np.stack([u[last] + 1 + du, rows + dv], -1) for du, dv in ((0, 0), (0, 1))]
    ).astype(float)
    directions = rays(camera, corners)
    direction = rays(camera, (corners.min(0) + corners.max(0)) / 2)
    for _ in range(CENTRING_STEPS):
        rotation = rotation_to_axis(direction)
        seen = directions @ rotation.T
        angles = np.arctan2(seen[:, :2], seen[:, 2:])
        middle = (angles.min(0) + angles.max(0)) / 2
        if np.abs(middle).max() < CENTRED:
            break
        direction = rotation.T @ np.append(np.tan(middle), 1.0)
    widest = np.abs(angles).max()
    half = np.tan(widest) * margin if widest < np.pi / 2 else np.inf
    if not half < np.tan(np.radians(WIDEST_CROP_DEG / 2)):
        raise InputError(
            f"the object spans {np.degrees(2 * widest):.0f} degrees of the view, and a crop can have at most "
            f"{WIDEST_CROP_DEG:g}; give a smaller --fov if the lens is not that wide, or a smaller mask."
        )
    focal = size / 2 / half
    intrinsics = Intrinsics(width=size, height=size, fx=focal, fy=focal, cx=size / 2, cy=size / 2)
    return CropCamera(crop_from_camera=matrix3(rotation), intrinsics=intrinsics)


def crop_from_photo(camera: Intrinsics, crop: CropCamera) -> Float[np.ndarray, "3 3"]:
    """The homography K_o R K^-1 from the photo's pixels to the crop's pixels.

    Examples:
        >>> camera = Intrinsics(width=64, height=64, fx=50, fy=50, cx=32, cy=32)
        >>> crop = CropCamera(crop_from_camera=matrix3(np.eye(3)), intrinsics=resized(camera, 32, 32))
        >>> crop_from_photo(camera, crop).round(6).tolist()
        [[0.5, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 1.0]]
    """
    return camera_matrix(crop.intrinsics) @ np.array(crop.crop_from_camera) @ np.linalg.inv(camera_matrix(camera))


def warp_to_crop(
    picture: Shaped[np.ndarray, "h w *c"], camera: Intrinsics, crop: CropCamera, nearest: bool = False
) -> Shaped[np.ndarray, "s s *c"]:
    """`picture` (of the photo's size) as the crop camera sees it; 0 outside the photo.

    If the crop is smaller than what it shows, each of its pixels is the mean over its area. With `nearest`, each takes the
    one value under its centre: for depth, which must not mix.

    Examples:
        >>> camera = Intrinsics(width=4, height=4, fx=4, fy=4, cx=2, cy=2)
        >>> crop = CropCamera(crop_from_camera=matrix3(np.eye(3)), intrinsics=resized(camera, 2, 2))
        >>> warp_to_crop(np.arange(16, dtype=np.float32).reshape(4, 4), camera, crop).tolist()
        [[2.5, 4.5], [10.5, 12.5]]
    """
    size = crop.intrinsics.width
    samples = 1 if nearest else _samples(camera, crop)
    rows = max(1, STRIP // (size * samples**2))
    columns = (np.arange(size * samples) + 0.5) / samples
    strips = []
    for top in range(0, size, rows):
        height = min(rows, size - top)
        u, v = _photo_pixels(camera, crop, columns, top + (np.arange(height * samples) + 0.5) / samples)
        # OpenCV puts pixel centres at integers, we at +0.5.
        u, v = (
            np.clip(at - 0.5, -2, end + 1).astype(np.float32) for at, end in ((u, camera.width), (v, camera.height))
        )
        strip = cv2.remap(picture, u, v, cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR)
        # If the factor is a whole number, this is the mean of the samples.
        strips.append(cv2.resize(strip, (size, height), interpolation=cv2.INTER_AREA) if samples > 1 else strip)
    return np.concatenate(strips)


def warp_depth_to_crop(
    depth: Float[np.ndarray, "h w"], camera: Intrinsics, crop: CropCamera
) -> Float[np.ndarray, "s s"]:
    """A z-depth map of the photo as z-depth along the crop camera's axis; 0 where unknown.

    Examples:
        >>> camera = Intrinsics(width=4, height=4, fx=4, fy=4, cx=2, cy=2)
        >>> crop = CropCamera(crop_from_camera=matrix3(np.eye(3)), intrinsics=resized(camera, 2, 2))
        >>> warp_depth_to_crop(np.full((4, 4), 1.5), camera, crop).tolist()
        [[1.5, 1.5], [1.5, 1.5]]
    """
    along = unproject(camera, depth) @ np.array(crop.crop_from_camera)[2]
    return warp_to_crop(along.astype(np.float32), camera, crop, nearest=True)


def _samples(camera: Intrinsics, crop: CropCamera) -> int:
    """Samples per side of a crop's pixel, so that neighbours are at most one pixel of the photo apart."""
    centres = np.arange(crop.intrinsics.width) + 0.5
    at = np.stack(_photo_pixels(camera, crop, centres, centres), axis=-1)
    shown = ((at >= 0) & (at <= [camera.width, camera.height])).all(axis=-1)
    steps = [
        np.linalg.norm(np.diff(at, axis=axis), axis=-1)[np.delete(shown, 0, axis) & np.delete(shown, -1, axis)]
        for axis in (0, 1)
    ]
    most = np.concatenate(steps).max(initial=0.0)
    return int(np.ceil(most)) if most > UNREDUCED else 1


def _photo_pixels(
    camera: Intrinsics, crop: CropCamera, u: Float[np.ndarray, "c"], v: Float[np.ndarray, "r"]
) -> tuple[Float[np.ndarray, "r c"], Float[np.ndarray, "r c"]]:
    """The photo's pixels (u, v) that show what the crop's columns `u` and rows `v` show; far outside if none does."""
    matrix = np.linalg.inv(crop_from_photo(camera, crop))
    x, y, z = (row[0] * u + row[1] * v[:, None] + row[2] for row in matrix)
    ahead = z > 0  # a wide crop also looks past the photo's picture plane
    z = np.where(ahead, z, 1.0)
    return np.where(ahead, x / z, OUTSIDE), np.where(ahead, y / z, OUTSIDE)


def latent_distance(crop: CropCamera) -> float:
    """Distance from the crop camera to the centre of the latent cube, in cube edges.

    The cube's centre plane fills the crop: d = 0.5 / tan(fov / 2) (Pixal3D, `distance_from_fov` with mesh scale 1).

    Examples:
        >>> camera = Intrinsics(width=32, height=32, fx=48, fy=48, cx=16, cy=16)
        >>> latent_distance(CropCamera(crop_from_camera=matrix3(np.eye(3)), intrinsics=camera))
        1.5
    """
    return crop.intrinsics.fx / crop.intrinsics.width


def crop_from_latent(camera: Intrinsics, fov: float | None = None) -> Float[np.ndarray, "4 4"]:
    """From the generator's cube to the frame of a crop's camera, one unit per cube edge.

    If the object was generated with another field of view than the crop's, its camera had another focal length, f'. Depths
    are kept, x and y are multiplied by f' / f, so that f x / z is what f' x' / z was: the object stays on its pixels.

    Args:
        camera: of the crop, square and centred.
        fov: horizontal, in radians, with which the object was generated; None for the crop's own.

    Examples:
        >>> camera = Intrinsics(width=32, height=32, fx=48, fy=48, cx=16, cy=16)
        >>> transform(crop_from_latent(camera), np.zeros(3)).tolist()
        [0.0, 0.0, 1.5]
        >>> crop_from_latent(camera, math.radians(90)).round(6).diagonal().tolist()
        [0.333333, -0.333333, -1.0, 1.0]
    """
    focal = camera.fx / camera.width
    distance = focal if fov is None else 0.5 / math.tan(fov / 2)
    stretch = distance / focal
    matrix = np.diag([stretch, -stretch, -1.0, 1.0])
    matrix[2, 3] = distance
    return matrix


def camera_from_crop(crop: CropCamera, scale: float) -> Float[np.ndarray, "4 4"]:
    """X_camera = s R^T X_crop: the placement of an object, whose only free number is `scale`.

    Examples:
        >>> camera = Intrinsics(width=32, height=32, fx=48, fy=48, cx=16, cy=16)
        >>> crop = CropCamera(crop_from_camera=matrix3(np.eye(3)), intrinsics=camera)
        >>> transform(camera_from_crop(crop, scale=2.0), np.array([0.0, 0.5, 1.0])).tolist()
        [0.0, 1.0, 2.0]
    """
    matrix = np.eye(4)
    matrix[:3, :3] = scale * np.array(crop.crop_from_camera).T
    return matrix


def transform(matrix: Float[np.ndarray, "4 4"], points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """`points` under an affine 4x4 `matrix`.

    Examples:
        >>> transform(USD_FROM_WORLD, np.array([0.0, 1.0, 0.0])).tolist()
        [0.0, 0.0, 1.0]
    """
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def vector(values: Float[np.ndarray, "3"]) -> Vector:
    """A record's vector from an array.

    Examples:
        >>> vector(np.array([1.0, 2.0, 3.0]))
        (1.0, 2.0, 3.0)
    """
    x, y, z = (float(value) for value in values)
    return x, y, z


def matrix3(values: Float[np.ndarray, "3 3"]) -> Matrix3:
    """A record's 3x3 matrix from an array.

    Examples:
        >>> matrix3(np.eye(3))
        ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    """
    a, b, c = (vector(row) for row in values)
    return a, b, c


def matrix4(values: Float[np.ndarray, "4 4"]) -> Matrix4:
    """A record's 4x4 matrix from an array.

    Examples:
        >>> matrix4(np.eye(4))[3]
        (0.0, 0.0, 0.0, 1.0)
    """
    rows = [tuple(float(value) for value in row) for row in values]
    return rows[0], rows[1], rows[2], rows[3]  # type: ignore[return-value]
