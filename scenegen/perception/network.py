"""The embedded perception network: one picture in; depth, objects, field of view and gravity out.

The trunk is EfficientNet-Lite0 (Tan and Le 2019, arXiv:1905.11946; the Lite variant has no squeeze-and-excitation and ReLU6
for swish), its batch norms folded into the convolutions. A feature pyramid (Lin et al. 2017, arXiv:1612.03144) brings its
four resolutions to a quarter of the picture's. Objects are grouped by spatial embeddings (Neven et al. 2019,
arXiv:1906.11109): every pixel points to its object's centre, in the picture's plane and in a few further dimensions, and
says how far around it others count as near.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

STRIDE = 4
"""Pixels of the picture per cell of the dense outputs."""
MULTIPLE = 32
"""Both sides of the picture must be multiples of this."""

BLOCKS = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
"""Expansion, kernel, stride, channels and number of the blocks of each stage."""
STEM = 32
TAPS = (2, 4, 10, 15)
"""Blocks whose outputs the pyramid takes, at strides 4, 8, 16 and 32."""
TAP_CHANNELS = (24, 40, 112, 320)

EMBEDDING_UNIT = 64.0
"""Pixels that are one unit of the embedding."""

FOCAL_BINS = 32
FOCAL_RANGE = (0.3, 3.0)
"""Focal length over the picture's longer side; the bins are even in its logarithm."""
PHOTO_FOCAL, PHOTO_FOCAL_SPREAD = 0.866, 0.35
"""Focal length of a photo nobody knows anything of (60 degrees across: between normal lenses and telephones), and the standard
deviation of its logarithm."""
FOCAL_TEMPERATURE = 3.0
"""What the logits of the focal length are divided by: the network is too sure of itself. With it errors on held-out renders
are about as large as said (1.2 standard deviations; 2.0 without)."""


@dataclass(frozen=True, kw_only=True)
class PerceptionSettings:
    """Sizes of the network. They are stored with its weights."""

    width: int = 64
    """Channels of the pyramid."""
    extra: int = 6
    """Dimensions of the embedding beyond the picture's two."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the network says of a batch of pictures; h and w are a quarter of theirs."""

    log_depth: Float[Tensor, "b h w"]
    """Natural logarithm of the z-depth, up to a constant of the picture."""
    log_error: Float[Tensor, "b h w"]
    """Logarithm of the scale of the Laplace distribution `log_depth` is the middle of."""
    object_logit: Float[Tensor, "b h w"]
    """Logit of showing an object rather than background."""
    seed_logit: Float[Tensor, "b h w"]
    """Logit of how near the pixel's embedding is to its object's centre: high where a group may be started."""
    embedding: Float[Tensor, "b e h w"]
    """Where in the space of groups each pixel is; the first two dimensions are x and y of the picture."""
    log_precision: Float[Tensor, "b h w"]
    """Logarithm of what squared distances from the object's centre are multiplied by."""
    focal_logits: Float[Tensor, "b bins"]
    """Of the bins of the focal length over the picture's longer side: what the picture says, whatever is usual."""
    down: Float[Tensor, "b 3"]
    """Unit vector of gravity in the camera's frame (x right, y down, z forward)."""


class SamePadConv(nn.Conv2d):
    """A convolution padded as TensorFlow does, where the trunk was trained: of an odd padding the larger half is last."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Pads and convolves."""
        if self.groups == 1:
            return self._convolve(x)
        # Under autocast the backward pass of bfloat16 is slower than float32's where every channel is convolved alone.
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

    def __init__(self, channels: int, out_channels: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.expand = SamePadConv(channels, wide, 1) if expansion > 1 else None
        self.depthwise = SamePadConv(wide, wide, kernel, stride, groups=wide)
        self.project = SamePadConv(wide, out_channels, 1)
        self.residual = stride == 1 and channels == out_channels

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """One block."""
        h = x if self.expand is None else functional.relu6(self.expand(x), inplace=True)
        h = self.project(functional.relu6(self.depthwise(h), inplace=True))
        return x + h if self.residual else h


class Trunk(nn.Module):
    """EfficientNet-Lite0 without its classifier, batch norms folded."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SamePadConv(3, STEM, 3, 2)
        blocks = []
        channels = STEM
        for expansion, kernel, stride, out_channels, count in BLOCKS:
            for index in range(count):
                blocks.append(InvertedResidual(channels, out_channels, expansion, kernel, stride if index == 0 else 1))
                channels = out_channels
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b _c _h _w"]]:
        """The outputs of the blocks `TAPS`."""
        x = functional.relu6(self.stem(x), inplace=True)
        taps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in TAPS:
                taps.append(x)
        return taps


class ConvBlock(nn.Module):
    """A 3x3 convolution, group norm and ReLU."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(8, out_channels)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Convolves, norms and rectifies."""
        return functional.relu(self.norm(self.conv(x)))


class Pyramid(nn.Module):
    """From coarse to fine: each level adds its own features to the enlarged coarser ones."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in TAP_CHANNELS)
        self.context = nn.Linear(TAP_CHANNELS[-1], width)
        self.smooth = nn.ModuleList(ConvBlock(width, width) for _ in TAP_CHANNELS)

    def forward(self, taps: list[Float[Tensor, "b _c _h _w"]]) -> Float[Tensor, "b d h w"]:
        """Features at the finest level."""
        x = self.context(taps[-1].mean((2, 3)))[:, :, None, None]
        for tap, lateral, smooth in zip(taps[::-1], reversed(self.lateral), reversed(self.smooth), strict=True):
            enlarged = functional.interpolate(x, size=tap.shape[2:], mode="bilinear", align_corners=False)
            x = smooth(enlarged + lateral(tap))
        return x


class DenseHead(nn.Module):
    """Some channels per cell, from a branch of its own."""

    def __init__(self, width: int, out_channels: int) -> None:
        super().__init__()
        self.block = ConvBlock(width, width)
        self.out = nn.Conv2d(width, out_channels, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """The channels, in float32."""
        x = self.block(x)
        with torch.autocast(x.device.type, enabled=False):
            return self.out(x.float())


class CameraHead(nn.Module):
    """Focal length and gravity, from a coarse grid of features: where things are matters."""

    GRID = 4

    def __init__(self) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(TAP_CHANNELS[-1], 32, 1)
        self.hidden = nn.Linear(32 * self.GRID**2, 128)
        self.out = nn.Linear(128, FOCAL_BINS + 3)

    def forward(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b bins"], Float[Tensor, "b 3"]]:
        """Logits of the focal length's bins, and the direction of gravity."""
        with torch.autocast(x.device.type, enabled=False):
            pooled = functional.adaptive_avg_pool2d(functional.relu(self.reduce(x.float())), self.GRID)
            out = self.out(functional.relu(self.hidden(pooled.flatten(1))))
        return out[:, :FOCAL_BINS], functional.normalize(out[:, FOCAL_BINS:], dim=1)


class PerceptionNetwork(nn.Module):
    """The whole network, untrained."""

    def __init__(self, settings: PerceptionSettings = PerceptionSettings()) -> None:
        super().__init__()
        self.settings = settings
        self.trunk = Trunk()
        self.pyramid = Pyramid(settings.width)
        self.depth = DenseHead(settings.width, 2)
        self.objects = DenseHead(settings.width, 5 + settings.extra)
        self.camera = CameraHead()

    def forward(self, pictures: Float[Tensor, "b 3 h w"]) -> Prediction:
        """What is seen in `pictures`: sRGB in 0..1, both sides multiples of 32."""
        taps = self.trunk((pictures * 255 - 127) / 128)
        features = self.pyramid(taps)
        depth = self.depth(features)
        objects = self.objects(features)
        focal_logits, down = self.camera(taps[-1])
        spatial = objects[:, 3:5] + cell_positions(objects.shape[2], objects.shape[3], objects.device)
        return Prediction(
            log_depth=depth[:, 0],
            log_error=depth[:, 1].clamp(-5.0, 2.0),
            object_logit=objects[:, 0],
            seed_logit=objects[:, 1],
            embedding=torch.cat([spatial, objects[:, 5:]], dim=1),
            log_precision=objects[:, 2].clamp(-4.0, 6.0),
            focal_logits=focal_logits,
            down=down,
        )


def cell_positions(height: int, width: int, device: torch.device) -> Float[Tensor, "2 h w"]:
    """x and y of the centres of the cells, in units of the embedding."""
    y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
    return (torch.stack([x, y]) + 0.5) * (STRIDE / EMBEDDING_UNIT)


def focal_bins() -> Float[Tensor, "bins"]:
    """Logarithms of the focal lengths (over the picture's longer side) at the middles of the bins."""
    low, high = torch.log(torch.tensor(FOCAL_RANGE))
    return low + (high - low) * (torch.arange(FOCAL_BINS) + 0.5) / FOCAL_BINS


def log_focal(logits: Float[Tensor, "b bins"]) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
    """Mean and standard deviation of the logarithm of the focal length over the picture's longer side.

    What the picture says is weighed with what is usual among photos (a normal distribution of the logarithm).
    """
    bins = focal_bins().to(logits)
    usual = -0.5 * ((bins - math.log(PHOTO_FOCAL)) / PHOTO_FOCAL_SPREAD) ** 2
    share = (logits / FOCAL_TEMPERATURE + usual).softmax(dim=1)
    mean = share @ bins
    return mean, ((share * (bins - mean[:, None]) ** 2).sum(1)).sqrt()
