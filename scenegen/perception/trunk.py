"""EfficientNet-Lite (Tan and Le 2019, arXiv:1905.11946) without its classifier, batch norms folded into the convolutions.

The Lite variants have no squeeze-and-excitation, and ReLU6 for swish.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

STEM = 32
SKIPPED = 0.1
"""Chance with which the last block is left out for a picture while training; for earlier ones it is proportionally less."""


@dataclass(frozen=True)
class Variant:
    """Sizes of a trunk."""

    blocks: tuple[tuple[int, int, int, int, int], ...]
    """Expansion, kernel, stride, channels and number of the blocks of each stage."""
    taps: tuple[int, ...]
    """Blocks whose outputs are given, at strides 4, 8, 16 and 32."""
    tap_channels: tuple[int, ...]


VARIANTS = {
    "lite0": Variant(
        blocks=(
            (1, 3, 1, 16, 1),
            (6, 3, 2, 24, 2),
            (6, 5, 2, 40, 2),
            (6, 3, 2, 80, 3),
            (6, 5, 1, 112, 3),
            (6, 5, 2, 192, 4),
            (6, 3, 1, 320, 1),
        ),
        taps=(2, 4, 10, 15),
        tap_channels=(24, 40, 112, 320),
    ),
    "lite2": Variant(
        blocks=(
            (1, 3, 1, 16, 1),
            (6, 3, 2, 24, 3),
            (6, 5, 2, 48, 3),
            (6, 3, 2, 88, 4),
            (6, 5, 1, 120, 4),
            (6, 5, 2, 208, 5),
            (6, 3, 1, 352, 1),
        ),
        taps=(3, 6, 14, 20),
        tap_channels=(24, 48, 120, 352),
    ),
}


class SamePadConv(nn.Conv2d):
    """A convolution padded as TensorFlow does, where the trunk was trained: of an odd padding the larger half is last."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Pads and convolves."""
        if self.groups == 1 or x.is_cuda:
            return self._convolve(x)
        # On CPUs the backward pass of bfloat16 is slower than float32's where every channel is convolved alone.
        with torch.autocast(x.device.type, enabled=False):
            return self._convolve(x.float())

    def _convolve(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride == 1:
            return functional.conv2d(x, self.weight, self.bias, 1, kernel // 2, 1, self.groups)
        # For even sides, which `MULTIPLE` ensures.
        before = (kernel - stride) // 2
        padded = functional.pad(x, (before, kernel - stride - before) * 2)
        return functional.conv2d(padded, self.weight, self.bias, stride, 0, 1, self.groups)


class InvertedResidual(nn.Module):
    """Widens by a 1x1 convolution, convolves each channel, narrows; beside the identity where shapes allow."""

    def __init__(
        self, channels: int, out_channels: int, expansion: int, kernel: int, stride: int, skipped: float = 0.0
    ) -> None:
        super().__init__()
        wide = channels * expansion
        self.skipped = skipped
        self.expand = SamePadConv(channels, wide, 1) if expansion > 1 else None
        self.depthwise = SamePadConv(wide, wide, kernel, stride, groups=wide)
        self.project = SamePadConv(wide, out_channels, 1)
        self.residual = stride == 1 and channels == out_channels

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """One block."""
        h = x if self.expand is None else functional.relu6(self.expand(x), inplace=True)
        h = self.project(functional.relu6(self.depthwise(h), inplace=True))
        if not self.residual:
            return h
        if self.training and self.skipped:
            # Stochastic depth (Huang et al. 2016, arXiv:1603.09382).
            h = h * (torch.rand(len(h), 1, 1, 1, device=h.device) >= self.skipped) / (1 - self.skipped)
        return x + h


class Trunk(nn.Module):
    """EfficientNet-Lite without its classifier, batch norms folded."""

    def __init__(self, variant: Variant = VARIANTS["lite0"]) -> None:
        super().__init__()
        self.taps = variant.taps
        self.stem = SamePadConv(3, STEM, 3, 2)
        blocks: list[InvertedResidual] = []
        channels = STEM
        total = sum(count for *_, count in variant.blocks)
        for expansion, kernel, stride, out_channels, count in variant.blocks:
            for index in range(count):
                skipped = SKIPPED * len(blocks) / total
                step = stride if index == 0 else 1
                blocks.append(InvertedResidual(channels, out_channels, expansion, kernel, step, skipped))
                channels = out_channels
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b _c _h _w"]]:
        """The outputs of the tapped blocks."""
        x = functional.relu6(self.stem(x), inplace=True)
        taps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                taps.append(x)
        return taps
