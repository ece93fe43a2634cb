"""Back-projection: where in the picture each voxel of the generator's grid lies.

Frames: latent, the cube [-0.5, 0.5]^3 with x right, y up, z towards the camera (`scenegen.camera`). The reference's world is
Z up with an edge of 1 / `mesh_scale`, and its cameras are OpenGL's (x right, y up, looking down -z). Pixels (u, v) have the
centre of the top-left pixel at (0.5, 0.5), so a centred camera has its principal point at half the size.

Everything is float32, as in the reference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from jaxtyping import Float, Float32, Int
from torch import Tensor

from scenegen.errors import UsageError

LEGACY_SHIFT = 0.5
"""Pixels the reference adds to every projection before it samples. Its weights were trained so: keep it."""
DEPTH_EPSILON = 1e-8


@dataclass(frozen=True, eq=False)
class Cameras:
    """The cameras of `b` objects, each seen in `v` pictures."""

    world_from_camera: Float32[Tensor, "b v 4 4"]
    """From OpenGL's camera to the reference's world."""
    fov: Float32[Tensor, "b v"]
    """Horizontal field of view of the square picture, in radians."""
    mesh_scale: Float32[Tensor, "b"]
    """One over the edge of the latent cube in world units."""


def fov_from_focal(focal: float) -> float:
    """Field of view in radians from a focal length in picture widths.

    Examples:
        >>> round(math.degrees(fov_from_focal(0.5)), 6)
        90.0
    """
    return 2 * math.atan(1 / (2 * focal))


def focal_pixels(fov: float, size: int) -> float:
    """Focal length in pixels of a `size` x `size` picture; `fov` in radians.

    Examples:
        >>> round(focal_pixels(math.radians(90), size=512), 6)
        256.0
    """
    return 0.5 * size / math.tan(fov / 2)


def distance_from_fov(fov: float, mesh_scale: float = 1.0, extend_pixels: float = 0.0, size: int = 512) -> float:
    """Distance, in world units, at which the cube's centre plane fills the picture.

    With `extend_pixels` the plane's left edge falls that many pixels outside the left border of a `size` x `size` picture.

    Args:
        fov: horizontal, in radians.
        mesh_scale: one over the cube's edge.
        extend_pixels: more than -`size` / 2.
        size: side of the picture in pixels.

    Raises:
        UsageError: for a field of view outside (0, pi), a scale not above 0, or a border pulled in beyond the centre.

    Examples:
        >>> round(distance_from_fov(math.radians(90)), 6)
        0.5
    """
    if not 0 < fov < math.pi:
        raise UsageError(
            f"`fov` is {fov} radians; it must be more than 0 and less than pi. Convert degrees with math.radians."
        )
    if not mesh_scale > 0:
        raise UsageError(f"`mesh_scale` is {mesh_scale}; it must be positive (1 for the released weights).")
    if not extend_pixels > -size / 2:
        raise UsageError(f"`extend_pixels` is {extend_pixels}; it must be above {-size / 2}, half the picture inwards.")
    return 0.5 / mesh_scale * (size / 2) / (size / 2 + extend_pixels) / math.tan(fov / 2)


def front_cameras(
    fov: Float32[Tensor, "b"], distance: Float32[Tensor, "b"], mesh_scale: Float32[Tensor, "b"]
) -> Cameras:
    """One camera per object, in front of its cube.

    Args:
        fov: horizontal, in radians.
        distance: from the cube's centre, in world units.
        mesh_scale: one over the cube's edge.

    Examples:
        >>> front_cameras(torch.tensor([0.8]), torch.tensor([1.2]), torch.ones(1)).world_from_camera.shape
        torch.Size([1, 1, 4, 4])
    """
    return Cameras(front_pose(distance)[:, None], fov[:, None], mesh_scale)


def relative_cameras(
    world_from_camera: Float32[Tensor, "b v 4 4"],
    fov: Float32[Tensor, "b v"],
    distance: Float32[Tensor, "b"],
    mesh_scale: Float32[Tensor, "b"],
) -> Cameras:
    """Several cameras per object; the first becomes its front camera, and the others move with it.

    Args:
        world_from_camera: poses in any common Z-up world.
        fov: horizontal, in radians.
        distance: of the first camera from the cube's centre.
        mesh_scale: one over the cube's edge.

    Examples:
        >>> poses = torch.eye(4).expand(1, 2, 4, 4)
        >>> made = relative_cameras(poses, torch.full((1, 2), 0.8), torch.tensor([1.2]), torch.ones(1))
        >>> torch.equal(made.world_from_camera[:, 0], made.world_from_camera[:, 1])
        True
    """
    front_from_world = front_pose(distance) @ torch.linalg.inv(world_from_camera[:, 0])
    return Cameras(front_from_world[:, None] @ world_from_camera, fov, mesh_scale)


def front_pose(distance: Float32[Tensor, "b"]) -> Float32[Tensor, "b 4 4"]:
    """World from camera, for a camera at (0, -distance, 0) that looks along +y with z up.

    Examples:
        >>> front_pose(torch.tensor([1.5]))[0, :3, 3].tolist()
        [0.0, -1.5, 0.0]
    """
    pose = torch.tensor([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], device=distance.device)
    pose = pose.expand(len(distance), 4, 4).clone()
    pose[:, 1, 3] = -distance
    return pose


def dense_coords(resolution: int, device: torch.device | None = None) -> Int[Tensor, "n 3"]:
    """Every voxel's (x, y, z) in the order of a dense volume: z runs fastest.

    Examples:
        >>> dense_coords(2)[:3].tolist()
        [[0, 0, 0], [0, 0, 1], [0, 1, 0]]
    """
    axis = torch.arange(resolution, device=device)
    return torch.cartesian_prod(axis, axis, axis)


def lattice_points(coords: Int[Tensor, "n 3"], resolution: int) -> Float32[Tensor, "n 3"]:
    """Latent points of voxels, for conditioning: index 0 and `resolution` - 1 lie on the faces of the cube.

    A decoded voxel's centre is elsewhere, at (k + 0.5) / `resolution` - 0.5.

    Raises:
        UsageError: for a voxel outside the grid.

    Examples:
        >>> lattice_points(torch.tensor([[0, 15, 0]]), resolution=16).tolist()
        [[-0.5, 0.5, -0.5]]
    """
    if coords.numel() and not 0 <= int(coords.min()) <= int(coords.max()) < resolution:
        raise UsageError(
            f"`coords` run from {int(coords.min())} to {int(coords.max())}; a grid of resolution {resolution} allows 0 to "
            f"{resolution - 1}. Set `grid_resolution` to the grid these coordinates were made for."
        )
    axis = torch.linspace(-1, 1, resolution, device=coords.device) / 2
    return axis[coords]


def world_from_latent(
    points: Float32[Tensor, "*n 3"], mesh_scale: Float32[Tensor, ""] | float
) -> Float32[Tensor, "*n 3"]:
    """Latent points (y up) in the reference's world (z up), whose cube has the edge 1 / `mesh_scale`.

    Examples:
        >>> world_from_latent(torch.tensor([0.0, 0.5, 0.25]), mesh_scale=1.0).tolist()
        [0.0, -0.25, 0.5]
    """
    x, y, z = points.unbind(-1)
    return torch.stack([x, -z, y], dim=-1) / mesh_scale


def project(
    world: Float32[Tensor, "n 3"],
    world_from_camera: Float32[Tensor, "4 4"],
    fov: Float32[Tensor, ""],
    size: int,
) -> tuple[Float32[Tensor, "n 2"], Float32[Tensor, "n"]]:
    """Pixels (u, v) of a `size` x `size` picture, and depth along the optical axis.

    Points behind the camera (depth below 0) come out mirrored. The reference samples them all the same.

    Examples:
        >>> pose = front_pose(torch.tensor([1.5]))[0]
        >>> pixels, depth = project(torch.zeros(1, 3), pose, torch.tensor(0.8), size=512)
        >>> pixels.tolist(), depth.tolist()
        ([[256.0, 256.0]], [1.5])
    """
    camera_from_world = torch.linalg.inv(world_from_camera)
    x, y, z = (world @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]).unbind(-1)
    focal = 0.5 * size / torch.tan(fov / 2)
    depth = -z
    divisor = depth + DEPTH_EPSILON
    # In this order of operations the result is the reference's to the last bit.
    return torch.stack([focal * x / divisor + size / 2, -focal * y / divisor + size / 2], dim=-1), depth


def sampling_points(uv: Float32[Tensor, "n 2"], size: int) -> Float32[Tensor, "n 2"]:
    """Pixels of a `size` x `size` picture to [-1, 1] across it, with the reference's half pixel of shift.

    Examples:
        >>> sampling_points(torch.tensor([[255.5, 255.5]]), size=512).tolist()
        [[0.0, 0.0]]
    """
    return (uv + LEGACY_SHIFT) / size * 2 - 1


def bilinear_taps(
    points: Float32[Tensor, "n 2"], height: int, width: int
) -> tuple[Int[Tensor, "n 4"], Int[Tensor, "n 4"], Float32[Tensor, "n 4"]]:
    """The four pixels that bilinear sampling of a `height` x `width` map reads at each point, and their weights.

    Points outside the map, [-1, 1] across it, take its border.

    Returns:
        Rows, columns, weights.

    Examples:
        >>> rows, columns, weights = bilinear_taps(torch.zeros(1, 2), height=2, width=2)
        >>> weights.tolist()
        [[0.25, 0.25, 0.25, 0.25]]
    """

    def along(position: Float32[Tensor, "n"], count: int) -> tuple[Int[Tensor, "n"], Float32[Tensor, "n"]]:
        # A point in the camera's own plane may be NaN, which must not become an index.
        inside = (((position + 1) * count - 1) / 2).nan_to_num(0.0).clamp(0, count - 1)
        low = inside.floor().clamp(max=max(count - 2, 0))
        return low.long(), inside - low

    column, right = along(points[:, 0], width)
    row, down = along(points[:, 1], height)
    next_row, next_column = (row + 1).clamp(max=height - 1), (column + 1).clamp(max=width - 1)
    rows = torch.stack([row, row, next_row, next_row], dim=-1)
    columns = torch.stack([column, next_column, column, next_column], dim=-1)
    left, up = 1 - right, 1 - down
    return rows, columns, torch.stack([up * left, up * right, down * left, down * right], dim=-1)


def sample(feature_map: Float[Tensor, "c h w"], points: Float32[Tensor, "n 2"]) -> Float[Tensor, "n c"]:
    """Bilinear samples of a map at points in [-1, 1] across it (u first); points outside take the border.

    Examples:
        >>> sample(torch.tensor([[[1.0, 3.0]]]), torch.zeros(1, 2)).tolist()
        [[2.0]]
    """
    sampled = F.grid_sample(
        feature_map[None].float(), points[None, :, None], mode="bilinear", padding_mode="border", align_corners=False
    )
    return sampled[0, :, :, 0].T.to(feature_map.dtype)
