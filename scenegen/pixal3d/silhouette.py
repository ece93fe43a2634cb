"""Which pixels a surface of millions of small faces covers, on whatever device it is."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from scenegen.pixal3d.sparse import row_slices
from scenegen.records import Intrinsics

NEAR = 1e-6
"""Faces with a corner nearer than this to the camera's plane, or behind it, are left out."""
WORKING_BYTES = 256 * 2**20
FACE_BYTES, CELL_BYTES = 200, 200
"""What one face, and one pixel of a face's box, take of it."""
EDGE = 1e-9
"""How far outside a face, in square pixels, a centre still counts: so that none falls between two faces."""


def silhouette(
    points: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"], camera: Intrinsics, budget: int = WORKING_BYTES
) -> Bool[Tensor, "h w"]:
    """The pixels whose centres lie in the picture of a face: those where a ray through the centre would hit the surface.

    Each face asks the pixels in its box, so that time goes with the number of faces plus that of the pixels of all boxes.

    Args:
        points: in the camera's frame (OpenCV: x right, y down, z forward).
        faces: in any winding.
        camera: no distortion.
        budget: bytes to work in.

    Example:
        >>> camera = Intrinsics(width=2, height=2, fx=1.0, fy=1.0, cx=1.0, cy=1.0)
        >>> corners = torch.tensor([[-1.0, -1.0, 1.0], [1.0, -1.0, 1.0], [-1.0, 1.0, 1.0]])
        >>> silhouette(corners, torch.tensor([[0, 1, 2]]), camera).tolist()
        [[True, True], [True, False]]
    """
    # Pixel centres are whole numbers here. `mps` has no float64.
    exact = points.to(torch.float32 if points.device.type == "mps" else torch.float64)
    x, y, z = exact.unbind(1)
    flat = torch.stack([camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy], dim=1) - 0.5
    size = torch.tensor([camera.width, camera.height], device=points.device)
    covered = torch.zeros(camera.height * camera.width, dtype=torch.bool, device=points.device)
    for part in row_slices(len(faces), FACE_BYTES, budget):
        corners = faces[part].long()
        corners = flat[corners[(z[corners] > NEAR).all(dim=1)]]
        low, high = corners.amin(dim=1).ceil().clamp_min(0), corners.amax(dim=1).floor()
        low, span = low.long(), (torch.minimum(high, size - 1) - low + 1).clamp_min(0).long()
        count = span.prod(dim=1)
        ends = count.cumsum(0)
        begins = ends - count
        for cells in row_slices(int(ends[-1]) if len(ends) else 0, CELL_BYTES, budget):
            cell = torch.arange(cells.start, cells.stop, device=points.device)
            face = torch.searchsorted(ends, cell, right=True)
            place, wide = cell - begins[face], span[face, 0]
            pixel = low[face] + torch.stack([place % wide, place // wide], dim=1)
            hit = pixel[_inside(pixel.to(flat.dtype), corners[face])]
            covered[hit[:, 1] * camera.width + hit[:, 0]] = True
    return covered.reshape(camera.height, camera.width)


def _inside(point: Float[Tensor, "n 2"], corners: Float[Tensor, "n 3 2"]) -> Bool[Tensor, "n"]:
    """Whether each point lies in its triangle."""
    edge, to_point = corners.roll(-1, dims=1) - corners, point[:, None] - corners
    side = edge[..., 0] * to_point[..., 1] - edge[..., 1] * to_point[..., 0]
    return (side >= -EDGE).all(dim=1) | (side <= EDGE).all(dim=1)
