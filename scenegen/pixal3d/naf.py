"""NAF, the feature up-sampler (Chambon et al. 2025, "NAF: zero-shot feature upsampling via neighborhood attention filtering").

Each pixel of the up-sampled map attends to a 9 x 9 neighbourhood of low-resolution cells; a small network makes its query from
the full-size picture. Voxels read that map at four pixels each, so `NafUpsampler.at` evaluates only those. At the released
model's largest setting the whole map would take 4 GiB.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn

from scenegen.errors import UsageError
from scenegen.pixal3d.projection import bilinear_taps

SCORE_BYTES = 2**27
"""Default bound on the attention scores that `NafUpsampler.at` holds at a time."""
MAX_GUIDE_OVERSIZE = 4
"""A guide more than this many times as wide as the target is shrunk first."""
GROUPS = 8
TAPS = 4
"""Pixels that bilinear sampling reads."""


class NafUpsampler(nn.Module):
    """NAF under its released names. Argument names are the reference's."""

    def __init__(
        self,
        dim: int = 256,
        heads_attn: int = 4,
        heads_rope: int = 4,
        kernel_size: int = 9,
        rope_base: float = 100.0,
        img_layers: int = 2,
    ) -> None:
        """Builds the network with random weights.

        Args:
            dim: channels of queries and keys.
            heads_attn: heads of the attention.
            heads_rope: heads of the rotary embedding.
            kernel_size: width of a neighbourhood in cells; odd.
            rope_base: ratio of the longest to the shortest period, nearly.
            img_layers: blocks of each branch of the guide's network.

        Raises:
            UsageError: if `kernel_size` is even, or `dim` is not divisible as it must be.
        """
        super().__init__()
        if dim % (4 * heads_rope) or dim % heads_attn or dim % (2 * GROUPS):
            raise UsageError(
                f"`dim` is {dim}; it must be a multiple of 4 x `heads_rope` ({heads_rope}), of `heads_attn` ({heads_attn}) "
                f"and of {2 * GROUPS}."
            )
        if kernel_size % 2 == 0:
            raise UsageError(f"`kernel_size` is {kernel_size}; it must be odd.")
        self.image_encoder = GuideEncoder(dim, heads_rope, rope_base, img_layers)
        self.heads = heads_attn
        self.kernel_size = kernel_size

    def queries(self, guide: Float[Tensor, "3 s s"], target_size: int) -> Float[Tensor, "d t t"]:
        """The query of each pixel of the target; averaged over cells, these are the keys.

        Args:
            guide: the picture in [0, 1], not normalised.
            target_size: side of the up-sampled map.
        """
        guide = guide.to(self.image_encoder.encoder[0].weight.dtype)
        return self.image_encoder(guide[None], target_size)[0]

    def at(
        self,
        guide: Float[Tensor, "3 s s"],
        lr: Float[Tensor, "c h w"],
        points: Float32[Tensor, "n 2"],
        target_size: int,
        budget: int = SCORE_BYTES,
    ) -> Float[Tensor, "n c"]:
        """Bilinear samples of the up-sampled map without making the map: the same numbers as `sample(dense(...), points)`.

        Args:
            guide: the picture in [0, 1], not normalised.
            lr: the features to up-sample.
            points: in [-1, 1] across the map (u first); points outside take the border.
            target_size: side of the up-sampled map.
            budget: bytes of scores at a time, in addition to the guide's maps and the result.

        Raises:
            UsageError: if the neighbourhood does not fit.
        """
        above, across = (
            neighbouring_cells(cells, target_size, self.kernel_size).to(lr.device) for cells in lr.shape[-2:]
        )
        queries = self.queries(guide, target_size)
        keys = self._split(F.adaptive_avg_pool2d(queries, lr.shape[-2:]))
        values = self._split(lr.to(queries.dtype))
        rows, columns, weights = bilinear_taps(points, target_size, target_size)
        step = max(1, budget // (TAPS * self.heads * keys.shape[1] * torch.float32.itemsize))
        parts = [torch.zeros(0, lr.shape[0], dtype=lr.dtype, device=lr.device)]
        for start in range(0, len(points), step):
            part = slice(start, start + step)
            asked = queries[:, rows[part], columns[part]].permute(1, 2, 0)
            # A cell's index is row-major: every row of the window with every column of it.
            cells = above[rows[part]][..., :, None] * lr.shape[-1] + across[columns[part]][..., None, :]
            parts.append(self._attend(asked, keys, values, cells.flatten(2), weights[part]).to(lr.dtype))
        return torch.cat(parts)

    def dense(
        self, guide: Float[Tensor, "3 s s"], lr: Float[Tensor, "c h w"], target_size: int
    ) -> Float[Tensor, "c t t"]:
        """The whole up-sampled map, computed as in the reference: the plain twin of `at`, for small sizes.

        Keys and values are enlarged to the target, and every pixel attends to a dilated window of pixels.

        Raises:
            UsageError: if the neighbourhood does not fit.
        """
        above, across = (
            dilated_windows(target_size, _dilation(cells, target_size, self.kernel_size), self.kernel_size)
            for cells in lr.shape[-2:]
        )
        queries = self.queries(guide, target_size)
        keys = F.adaptive_avg_pool2d(queries, lr.shape[-2:])
        enlarged = [
            F.interpolate(x[None], size=(target_size, target_size), mode="nearest-exact")[0].unflatten(
                0, (self.heads, -1)
            )
            for x in (keys, lr.to(queries.dtype))
        ]
        asked = queries.unflatten(0, (self.heads, -1))
        offsets = [
            (above[:, i, None], across[None, :, j]) for i in range(self.kernel_size) for j in range(self.kernel_size)
        ]
        scores = torch.stack([(asked * enlarged[0][:, :, rows, columns]).sum(1) for rows, columns in offsets])
        shares = (scores.float() * asked.shape[1] ** -0.5).softmax(dim=0).to(queries.dtype)
        result = torch.zeros_like(enlarged[1])
        for share, (rows, columns) in zip(shares, offsets, strict=True):
            result += share[:, None] * enlarged[1][:, :, rows, columns]
        return result.flatten(0, 1).to(lr.dtype)

    def _split(self, cells: Float[Tensor, "c h w"]) -> Float[Tensor, "heads cells d"]:
        return cells.flatten(1).unflatten(0, (self.heads, -1)).transpose(1, 2).contiguous()

    def _attend(
        self,
        asked: Float[Tensor, "n taps c"],
        keys: Float[Tensor, "heads cells d"],
        values: Float[Tensor, "heads cells e"],
        cells: Int[Tensor, "n taps k"],
        weights: Float32[Tensor, "n taps"],
    ) -> Float[Tensor, "n heads*e"]:
        """Attention of every tap to its own `cells`, summed over taps by `weights`."""
        parts = []
        for head, (key, value) in enumerate(zip(keys, values, strict=True)):
            query = asked.unflatten(2, (self.heads, -1))[:, :, head]
            # Scoring every cell is one matrix product, far quicker than fetching 81 keys per pixel.
            scores = (query @ key.T).gather(2, cells).float() * key.shape[1] ** -0.5
            shares = (scores.softmax(dim=-1) * weights[..., None]).to(value.dtype)
            parts.append(F.embedding_bag(cells.flatten(1), value, per_sample_weights=shares.flatten(1), mode="sum"))
        return torch.cat(parts, dim=1)


class GuideEncoder(nn.Module):
    """Two small convolutional networks over the picture, one with 1 x 1 and one with 3 x 3 kernels; then a rotary embedding."""

    def __init__(self, dim: int, heads_rope: int, rope_base: float, img_layers: int) -> None:
        super().__init__()
        self.encoder = _branch(dim // 2, 1, img_layers)
        self.sem_encoder = _branch(dim // 2, 3, img_layers)
        self.rope = AxialRope(dim, heads_rope, rope_base)

    def forward(self, guide: Float[Tensor, "b 3 s s"], target_size: int) -> Float[Tensor, "b d t t"]:
        """The map of queries: `features`, rotated by position."""
        return self.rope(self.features(guide, target_size))

    def features(self, guide: Float[Tensor, "b 3 s s"], target_size: int) -> Float[Tensor, "b d t t"]:
        """The networks' outputs, averaged to the target's size, before the rotary embedding."""
        largest = MAX_GUIDE_OVERSIZE * target_size
        if guide.shape[-1] > largest:
            guide = F.interpolate(guide, size=(largest, largest), mode="bilinear", align_corners=False)
        # Averaged one after the other, so that only one full-size map is in memory at a time.
        same = guide.shape[-1] == target_size
        maps = (branch(guide) for branch in (self.encoder, self.sem_encoder))
        return torch.cat([x if same else F.adaptive_avg_pool2d(x, target_size) for x in maps], dim=1)


class GuideBlock(nn.Module):
    """Norm, SiLU, convolution, twice. No residual."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels)
        self.conv1 = _convolution(channels, channels, kernel)
        self.norm2 = nn.GroupNorm(GROUPS, channels)
        self.conv2 = _convolution(channels, channels, kernel)

    def forward(self, x: Float[Tensor, "b c s s"]) -> Float[Tensor, "b c s s"]:
        """Maps the picture to one of the same size."""
        x = self.conv1(F.silu(self.norm1(x)))
        return self.conv2(F.silu(self.norm2(x)))


class AxialRope(nn.Module):
    """Rotary embedding of a picture's rows and columns, in float32 (DINOv3's)."""

    periods: Tensor

    def __init__(self, dim: int, heads: int, base: float) -> None:
        super().__init__()
        self.heads = heads
        pairs = dim // heads // 2
        self.register_buffer("periods", base ** (2 * torch.arange(pairs // 2) / pairs))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The map with each head's channels rotated in pairs (k, k + half), by row and by column."""

        def angles(count: int) -> Float32[Tensor, "count periods"]:
            position = (torch.arange(count, device=x.device) + 0.5) / count * 2 - 1
            return 2 * math.pi * position[:, None] / self.periods.float()

        height, width = x.shape[-2:]
        by_row = angles(height).T[:, :, None].expand(-1, -1, width)
        by_column = angles(width).T[:, None, :].expand(-1, height, -1)
        angle = torch.cat([by_row, by_column])
        cos, sin = angle.cos(), angle.sin()
        first, second = x.float().unflatten(1, (self.heads, 2, -1)).unbind(2)
        turned = torch.stack([first * cos - second * sin, second * cos + first * sin], dim=2)
        return turned.flatten(1, 3).to(x.dtype)


def dilated_windows(size: int, dilation: int, kernel: int) -> Int[Tensor, "size kernel"]:
    """Along one axis, the `kernel` pixels each pixel attends to: every `dilation`-th one around it, inside the map.

    The rule of neighbourhood attention (Hassani et al. 2023, arXiv:2204.07143): at the border the window is shifted, not cut.
    """
    pixel = torch.arange(size)
    phase, place = pixel % dilation, pixel // dilation
    places = (size - phase + dilation - 1) // dilation
    start = (place - kernel // 2).clamp(min=0).minimum(places - kernel)
    return phase[:, None] + dilation * (start[:, None] + torch.arange(kernel))


def neighbouring_cells(cells: int, size: int, kernel: int) -> Int[Tensor, "size kernel"]:
    """Along one axis of `cells` low-resolution cells, those that each of the `size` pixels attends to.

    If `size` is a multiple of `cells`, they are the `kernel` cells around the pixel's own. Otherwise a cell may come twice or be
    left out, as when the cells are enlarged to pixels and the window is dilated by the ratio rounded down.

    Raises:
        UsageError: if the neighbourhood does not fit.
    """
    window = dilated_windows(size, _dilation(cells, size, kernel), kernel)
    cell_of_pixel = F.interpolate(torch.arange(cells, dtype=torch.float32)[None, None], size=size, mode="nearest-exact")
    return cell_of_pixel[0, 0].long()[window]


def _dilation(cells: int, size: int, kernel: int) -> int:
    dilation = size // cells
    if dilation == 0 or size // dilation < kernel:
        raise UsageError(
            f"{cells} cells cannot be up-sampled to {size} pixels with a neighbourhood of {kernel}; allowed are at least "
            f"{kernel} cells and as many pixels. Use a larger `image_size` (more patches) or another `naf_target_size`."
        )
    return dilation


def _branch(channels: int, kernel: int, layers: int) -> nn.Sequential:
    return nn.Sequential(_convolution(3, channels, kernel), *(GuideBlock(channels, kernel) for _ in range(layers)))


def _convolution(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    # A 1 x 1 convolution needs no border; padding by 0 would still copy the whole map.
    mode = "reflect" if kernel > 1 else "zeros"
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, padding_mode=mode)
