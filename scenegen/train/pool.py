"""Pictures held on the training device, and batches drawn from them through other cameras.

A batch is made where the network is: pictures are turned, zoomed, mirrored, toned and pasted together on the device itself, so
that only new pictures are ever sent there. The camera is turned and zoomed exactly (a homography), so that depth, field of
view and gravity stay true.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from scenegen.perception.network import PHOTO_FOCAL, STRIDE, places
from scenegen.train.pictures import IGNORED, TrainingPicture

ZOOM = (0.6, 2.2)
"""Factor on the focal length with which the picture just fills the view."""
ROLL_DEG = 8.0
PAN = 0.12
"""Share of the picture the view may turn beyond what the zoom leaves free."""
CROP_MARGIN = (1.08, 1.7)
"""Side of a crop over that of its object's box."""
CUTOUT_MARGIN = 1.1
"""Side of a cut-out over the longer side of its object's box."""
LEAST_CELLS = 60
"""Smallest object a crop is made of, in cells of the picture's pool."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Pictures as the network is shown them; the dense targets have a cell per `STRIDE` pixels."""

    images: Float[Tensor, "b 3 h w"]
    """sRGB in 0..1."""
    ids: Int[Tensor, "b h4 w4"]
    """0 where no object is labelled, -1 where nothing is known."""
    exhaustive: Bool[Tensor, "b"]
    """Whether what is labelled 0 shows no object."""
    log_depth: Float[Tensor, "b h4 w4"]
    """-inf where unknown, +inf where there is no surface."""
    focal: Float[Tensor, "b"]
    """Focal length in pixels; NaN where unknown."""
    down: Float[Tensor, "b 3"]
    """Unit vector of gravity in the camera's frame; NaN where unknown."""
    nouns: Int[Tensor, "b 256"]
    """Number of the noun of each object; -1 where unknown."""

    @staticmethod
    def joined(parts: list[Batch]) -> Batch:
        """One batch of several."""
        return Batch(**{name: torch.cat([getattr(part, name) for part in parts]) for name in Batch.__annotations__})


@dataclass(frozen=True, eq=False)
class Cutouts:
    """Single objects, each in the middle of a square that its box nearly fills."""

    images: Float[Tensor, "b 3 s s"]
    """sRGB in 0..1."""
    shares: Float[Tensor, "b 1 s s"]
    """Share of each pixel that the object covers; 0 throughout if there is no whole object."""
    extents: Float[Tensor, "b"]
    """Pixels that a side of the square is in the object's own picture."""
    nouns: Int[Tensor, "b"]
    """Number of the noun; -1 where unknown."""

    @staticmethod
    def joined(parts: list[Cutouts]) -> Cutouts:
        """All objects of several parts, in random order."""
        fields = {name: torch.cat([getattr(part, name) for part in parts]) for name in Cutouts.__annotations__}
        order = torch.randperm(len(fields["extents"]), device=fields["extents"].device)
        return Cutouts(**{name: values[order] for name, values in fields.items()})


class Pool:
    """Up to `capacity` pictures on a canvas of `side` pixels; beyond that the newest replace the oldest."""

    def __init__(self, capacity: int, side: int, device: torch.device) -> None:
        self.side, self.capacity, self.added = side, capacity, 0
        self.images = torch.zeros(capacity, 3, side, side, dtype=torch.uint8, device=device)
        self.ids = torch.full((capacity, side, side), IGNORED, dtype=torch.uint8, device=device)
        self.log_depth = torch.full((capacity, side, side), -math.inf, dtype=torch.float16, device=device)
        self.shapes = torch.ones(capacity, 2, device=device)
        self.cameras = torch.ones(capacity, 4, device=device)
        self.down = torch.full((capacity, 3), math.nan, device=device)
        self.nouns = torch.full((capacity, 256), -1, dtype=torch.int16, device=device)
        flags = torch.zeros(3, capacity, dtype=torch.bool, device=device)
        self.exhaustive, self.focal_known, self.depth_known = flags
        self.device = device

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def add(self, picture: TrainingPicture) -> None:
        """Adds a picture, reduced to fit the canvas if it is larger."""
        picture = reduced(picture, self.side)
        at = self.added % self.capacity
        height, width = picture.ids.shape
        self.images[at] = 0
        self.images[at, :, :height, :width] = torch.from_numpy(picture.image).to(self.device).permute(2, 0, 1)
        self.ids[at] = IGNORED
        self.ids[at, :height, :width] = torch.from_numpy(picture.ids).to(self.device)
        self.log_depth[at] = -math.inf
        if picture.log_depth is not None:
            self.log_depth[at, :height, :width] = torch.from_numpy(picture.log_depth).to(self.device, torch.float16)
        self.depth_known[at] = picture.log_depth is not None
        self.shapes[at] = torch.tensor([height, width])
        focal = PHOTO_FOCAL * max(height, width)  # that of an unknown photo, if its own is unknown
        camera = (focal, focal, width / 2, height / 2) if picture.camera is None else picture.camera
        self.cameras[at] = torch.tensor(np.asarray(camera, np.float32))
        self.focal_known[at] = picture.camera is not None
        self.down[at] = torch.tensor(
            np.full(3, np.nan, np.float32) if picture.down is None else np.asarray(picture.down, np.float32)
        )
        self.nouns[at] = -1
        for number, noun in picture.nouns.items():
            self.nouns[at, number] = noun
        self.exhaustive[at] = picture.exhaustive
        self.added += 1

    def draw(self, count: int, width: int, height: int) -> Batch:
        """Random pictures through random cameras at their places."""
        which = torch.randint(len(self), (count,), device=self.device)
        turn, focal = self.view_cameras(which, width, height)
        return self.seen(which, turn, focal, width, height)

    def view_cameras(
        self, which: Int[Tensor, "b"], width: int, height: int
    ) -> tuple[Float[Tensor, "b 3 3"], Float[Tensor, "b"]]:
        """Rotations from the views' frames to those of the pictures' cameras, and focal lengths in pixels of the view."""
        shape, camera = self.shapes[which].flip(1), self.cameras[which]
        count = len(which)
        size = torch.tensor([width, height], device=self.device)
        zoom = torch.exp(_uniform((count,), math.log(ZOOM[0]), math.log(ZOOM[1]), self.device))
        focal = camera[:, 0] * (size / shape).amax(1) * zoom
        free = (1 - size / focal[:, None] * camera[:, :1] / shape).clamp(min=0)
        reach = free / 2 + PAN * torch.rand(count, 1, device=self.device)
        pan, tilt = (_uniform((count, 2), -1, 1, self.device) * reach * shape / camera[:, :2]).atan().unbind(1)
        roll = (torch.randn(count, device=self.device) / 2).clamp(-1, 1) * math.radians(ROLL_DEG)
        return rotations(-tilt, pan, roll), focal

    def crops(self, count: int, side: int) -> tuple[Batch, Float[Tensor, "b"]]:
        """Random objects, each in the middle of a square view of its own, and the views' focal lengths over their sides.

        If any picture has known depth, only such pictures are used. Id 1 is the object; all else is 0.
        """
        candidates = self.depth_known[: len(self)].nonzero()[:, 0]
        if not len(candidates):
            candidates = torch.arange(len(self), device=self.device)
        which = candidates[torch.randint(len(candidates), (count,), device=self.device)]
        number, low, high = self.objects(which)
        camera = self.cameras[which]
        middle = (low + high) / 2
        aim = functional.normalize(
            torch.cat([(middle - camera[:, 2:]) / camera[:, :2], torch.ones_like(low[:, :1])], 1)
        )
        margin = torch.exp(_uniform((count,), math.log(CROP_MARGIN[0]), math.log(CROP_MARGIN[1]), self.device))
        # Off the axis, a camera's pixels span a smaller angle.
        span = (high - low).amax(1).clamp(min=2) * margin * aim[:, 2] / camera[:, 0]
        focal = side / span
        yaw = torch.atan2(aim[:, 0], aim[:, 2])
        pitch = -torch.asin(aim[:, 1])
        jitter = _uniform((2, count), -0.06, 0.06, self.device) * span
        roll = torch.randn(count, device=self.device) * math.radians(5)
        turn = rotations(pitch + jitter[0], yaw + jitter[1], roll)
        batch = self.seen(which, turn, focal, side, side)
        return replace(batch, ids=torch.where(batch.ids == number[:, None, None], 1, 0)), focal / side

    def cutouts(self, count: int, side: int) -> Cutouts:
        """Random objects in squares of `side` pixels. Objects that the picture's border may cut are left out."""
        which = torch.randint(len(self), (count,), device=self.device)
        number, low, high = self.objects(which)
        whole = ((low > 0) & (high < self.shapes[which].flip(1))).all(1)
        extent = CUTOUT_MARGIN * (high - low).amax(1)
        pixels = ((low + high) / 2)[:, None, None] + extent[:, None, None, None] * places(side, side, self.device)
        grid = 2 * pixels / self.side - 1
        mask = (self.ids[which] == number[:, None, None]) & whole[:, None, None]
        return Cutouts(
            images=functional.grid_sample(
                self.images[which].float() / 255, grid, padding_mode="border", align_corners=False
            ),
            shares=functional.grid_sample(mask[:, None].float(), grid, align_corners=False),
            extents=extent,
            nouns=self.nouns[which, number].long(),
        )

    def objects(self, which: Int[Tensor, "b"]) -> tuple[Int[Tensor, "b"], Float[Tensor, "b 2"], Float[Tensor, "b 2"]]:
        """A random object of each picture: its id, and the corners of its box in pixels."""
        ids = self.ids[which].long()
        areas = torch.zeros(len(which), 256, device=self.device)
        areas.scatter_add_(1, ids.flatten(1), torch.ones_like(ids.flatten(1), dtype=areas.dtype))
        areas[:, [0, IGNORED]] = 0
        chance = torch.where(areas >= LEAST_CELLS * STRIDE**2, areas.sqrt(), 0) + 1e-9 * areas + 1e-20
        number = torch.multinomial(chance, 1)[:, 0]
        mask = ids == number[:, None, None]
        lows, highs = [], []
        for axis in (1, 2):  # columns first: x
            line = mask.any(axis)
            lows.append(line.float().argmax(1))
            highs.append(self.side - line.flip(1).float().argmax(1))
        return number, torch.stack(lows, 1).float(), torch.stack(highs, 1).float()

    def seen(
        self,
        which: Int[Tensor, "b"],
        picture_from_view: Float[Tensor, "b 3 3"],
        focal: Float[Tensor, "b"],
        width: int,
        height: int,
    ) -> Batch:
        """The pictures `which` through cameras at the same places, of focal length `focal` in pixels; half are mirrored."""
        pixels, _ = self._source(which, picture_from_view, focal, width, height, 1)
        shape = self.shapes[which].flip(1)[:, None, None]
        # Beyond a picture its rim is repeated; then only the empty part of the canvas must be avoided.
        images = functional.grid_sample(
            self.images[which].float() / 255,
            2 * torch.minimum(pixels.clamp(min=0.5), shape - 0.5) / self.side - 1,
            padding_mode="border",
            align_corners=False,
        )
        cells, forward = self._source(which, picture_from_view, focal, width // STRIDE, height // STRIDE, STRIDE)
        known = ((cells >= 0) & (cells < shape)).all(-1)
        column, row = cells.long().clamp(0, self.side - 1).unbind(-1)
        batch = which[:, None, None].expand_as(row)
        ids = self.ids[batch, row, column].long()
        ids = torch.where(known & (ids != IGNORED), ids, -1)
        log_depth = self.log_depth[batch, row, column].float() - forward.log()
        log_depth = torch.where(known, log_depth, -math.inf)
        down = torch.einsum("bij,bi->bj", picture_from_view, self.down[which])
        focal = torch.where(self.focal_known[which], focal, math.nan)
        mirrored = torch.rand(len(which), device=self.device) < 0.5
        wide = mirrored[:, None, None]
        return Batch(
            images=torch.where(wide[:, None], images.flip(3), images),
            ids=torch.where(wide, ids.flip(2), ids),
            exhaustive=self.exhaustive[which],
            log_depth=torch.where(wide, log_depth.flip(2), log_depth),
            focal=focal,
            down=torch.where(mirrored[:, None], down * torch.tensor([-1.0, 1, 1], device=self.device), down),
            nouns=self.nouns[which].long(),
        )

    def _source(
        self,
        which: Int[Tensor, "b"],
        turn: Float[Tensor, "b 3 3"],
        focal: Float[Tensor, "b"],
        width: int,
        height: int,
        step: int,
    ) -> tuple[Float[Tensor, "b h w 2"], Float[Tensor, "b h w"]]:
        """Pixel of the picture that each cell of `step` pixels looks at, and z, in the picture, of the view's ray of z 1."""
        flat = places(height, width, self.device) * (max(height, width) * step)
        rays = torch.cat(
            [flat / focal[:, None, None, None], torch.ones_like(flat[..., :1]).expand(len(which), -1, -1, -1)], -1
        )
        rays = torch.einsum("bij,bhwj->bhwi", turn, rays)
        forward = rays[..., 2].clamp(min=1e-3)
        camera = self.cameras[which][:, None, None]
        return rays[..., :2] / forward[..., None] * camera[..., :2] + camera[..., 2:], forward


def reduced(picture: TrainingPicture, side: int) -> TrainingPicture:
    """The picture with its longer side at most `side` pixels."""
    height, width = picture.ids.shape
    scale = side / max(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    factors = np.array([size[0] / width, size[1] / height] * 2)
    nearest = {"dsize": size, "interpolation": cv2.INTER_NEAREST}
    return replace(
        picture,
        image=cv2.resize(picture.image, size, interpolation=cv2.INTER_AREA),
        ids=cv2.resize(picture.ids, **nearest),
        log_depth=None if picture.log_depth is None else cv2.resize(picture.log_depth, **nearest),
        camera=None if picture.camera is None else picture.camera * factors,
    )


def rotations(pitch: Float[Tensor, "b"], yaw: Float[Tensor, "b"], roll: Float[Tensor, "b"]) -> Float[Tensor, "b 3 3"]:
    """Rotations by roll about z, then pitch about x, then yaw about y (matrices for column vectors: yaw pitch roll)."""
    one, zero = torch.ones_like(pitch), torch.zeros_like(pitch)

    def matrix(*rows: Tensor) -> Tensor:
        return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))

    c, s = pitch.cos(), pitch.sin()
    about_x = matrix(one, zero, zero, zero, c, -s, zero, s, c)
    c, s = yaw.cos(), yaw.sin()
    about_y = matrix(c, zero, s, zero, one, zero, -s, zero, c)
    c, s = roll.cos(), roll.sin()
    about_z = matrix(c, -s, zero, s, c, zero, zero, zero, one)
    return about_y @ about_x @ about_z


def _uniform(shape: tuple[int, ...], low: float, high: float, device: torch.device) -> Tensor:
    return low + (high - low) * torch.rand(shape, device=device)
