"""The network of MoGe-2 (Wang et al. 2025, arXiv:2507.02546), built from the config in its checkpoint, under its names.

A DINOv2 encoder gives features at one token for 14 pixels. A shared neck and a head for each output refine them over five
levels, each of twice the size. Every level is told where its pixels lie, as positions on a plane whose half diagonal is 1.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

PATCH = 14
LEVELS = 5
POSITION_GRID = 37
"""Rows and columns of DINOv2's position embeddings."""
GRID_OFFSET = 0.1
"""DINOv2's authors enlarge the position embeddings by this much more than needed; its weights are used to that."""


@dataclass(frozen=True)
class VitSize:
    """Of a DINOv2."""

    width: int
    depth: int
    heads: int


BACKBONES: Mapping[str, VitSize] = MappingProxyType(
    {
        "dinov2_vits14": VitSize(384, 12, 6),
        "dinov2_vitb14": VitSize(768, 12, 12),
        "dinov2_vitl14": VitSize(1024, 24, 16),
    }
)


@dataclass(frozen=True, eq=False)
class MogeOutput:
    """What the network says, at the picture's size."""

    points: Float[Tensor, "h w 3"]
    """In the camera's frame (OpenCV), except for the scale and a shift of z."""
    mask: Float[Tensor, "h w"]
    """How likely a pixel shows something at a finite distance."""
    normals: Float[Tensor, "h w 3"] | None
    """Unit vectors in the camera's frame, towards the camera; None from a network without them."""
    metres: float
    """Metres for each unit of `points`."""


class Moge(nn.Module):
    """MoGe-2.

    Args:
        config: `model_config` of a checkpoint.
        backbones: sizes of the encoders that it may name.

    Raises:
        KeyError, ValueError, TypeError: if the config is not that of a MoGe-2.
    """

    def __init__(self, config: Mapping[str, Any], backbones: Mapping[str, VitSize] = BACKBONES) -> None:
        super().__init__()
        if config["remap_output"] != "exp":
            raise ValueError(f"`remap_output` is {config['remap_output']!r}; it must be 'exp'")
        self.least_tokens, self.most_tokens = config["num_tokens_range"]
        self.encoder = Encoder(config["encoder"], backbones)
        self.neck = ConvStack(config["neck"])
        self.points_head = ConvStack(config["points_head"])
        self.mask_head = ConvStack(config["mask_head"])
        self.normal_head = ConvStack(config["normal_head"]) if config.get("normal_head") else None
        dims = config["scale_head"]["dims"]
        layers = [layer for pair in itertools.pairwise(dims) for layer in (nn.Linear(*pair), nn.ReLU())]
        self.scale_head = nn.Sequential(*layers[:-1])

    def forward(self, image: Float[Tensor, "3 h w"], tokens: int) -> MogeOutput:
        """Looks at a picture, sRGB from 0 to 1, with about `tokens` tokens."""
        height, width = image.shape[1:]
        aspect = width / height
        rows, columns = round((tokens / aspect) ** 0.5), round((tokens * aspect) ** 0.5)
        features, summary = self.encoder(image[None], rows, columns)
        levels = []
        for level in range(LEVELS):
            places = plane_positions(rows << level, columns << level, aspect).permute(2, 0, 1)[None].to(features)
            levels.append(torch.cat([features, places], 1) if level == 0 else places)
        shared = self.neck(levels)
        points, mask = (
            functional.interpolate(head(shared)[-1], (height, width), mode="bilinear")
            for head in (self.points_head, self.mask_head)
        )
        along, depth = points[0].float().permute(1, 2, 0).split([2, 1], dim=-1)
        depth = depth.exp()
        normals = None
        if self.normal_head is not None:
            normals = functional.interpolate(self.normal_head(shared)[-1], (height, width), mode="bilinear")
            normals = functional.normalize(normals[0].float().permute(1, 2, 0), dim=-1)
        return MogeOutput(
            points=torch.cat([along * depth, depth], -1),
            mask=mask[0, 0].float().sigmoid(),
            normals=normals,
            metres=float(self.scale_head(summary).float().exp()),
        )


def plane_positions(rows: int, columns: int, aspect: float) -> Float[Tensor, "h w 2"]:
    """Positions of pixel centres, in half diagonals from the middle.

    Examples:
        >>> plane_positions(1, 2, 4 / 3)[0].tolist()
        [[-0.4000000059604645, 0.0], [0.4000000059604645, 0.0]]
    """
    diagonal = (1 + aspect**2) ** 0.5
    across, down = aspect / diagonal, 1 / diagonal
    u = torch.linspace(-across * (columns - 1) / columns, across * (columns - 1) / columns, columns)
    v = torch.linspace(-down * (rows - 1) / rows, down * (rows - 1) / rows, rows)
    return torch.stack(torch.meshgrid(u, v, indexing="xy"), -1)


class Encoder(nn.Module):
    """A DINOv2, some of whose layers are projected and summed."""

    def __init__(self, config: Mapping[str, Any], backbones: Mapping[str, VitSize]) -> None:
        super().__init__()
        size = backbones[config["backbone"]]
        layers = config["intermediate_layers"]
        self.layers = list(range(size.depth - layers, size.depth)) if isinstance(layers, int) else list(layers)
        self.backbone = Dinov2(size)
        self.output_projections = nn.ModuleList(nn.Conv2d(size.width, config["dim_out"], 1) for _ in self.layers)
        self.register_buffer("image_mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("image_std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(
        self, image: Float[Tensor, "b 3 h w"], rows: int, columns: int
    ) -> tuple[Float[Tensor, "b c r k"], Float[Tensor, "b d"]]:
        """Features of each token, and the class token of the last layer."""
        size = rows * PATCH, columns * PATCH
        small = functional.interpolate(image, size, mode="bilinear", antialias=True)
        seen = self.backbone((small - self.image_mean) / self.image_std, self.layers)
        summed = sum(
            project(tokens[:, 1:].mT.unflatten(2, (rows, columns)).contiguous())
            for project, tokens in zip(self.output_projections, seen, strict=True)
        )
        return summed, seen[-1][:, 0]


class Dinov2(nn.Module):
    """DINOv2 without registers (Oquab et al. 2023, arXiv:2304.07193), under its own names."""

    def __init__(self, size: VitSize) -> None:
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, size.width, PATCH, PATCH)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, size.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + POSITION_GRID**2, size.width))
        self.mask_token = nn.Parameter(torch.zeros(1, size.width))  # only training uses it
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width, eps=1e-6)

    def forward(self, image: Float[Tensor, "b 3 h w"], layers: Sequence[int]) -> list[Float[Tensor, "b t d"]]:
        """Tokens after each of `layers`, normalised, the class token first."""
        patches = self.patch_embed.proj(image)
        rows, columns = patches.shape[2:]
        tokens = torch.cat([self.cls_token.expand(len(image), -1, -1), patches.flatten(2).mT], 1)
        tokens = tokens + self._positions(rows, columns).to(tokens)
        kept = []
        for number, block in enumerate(self.blocks):
            tokens = block(tokens)
            if number in layers:
                kept.append(self.norm(tokens))
        return kept

    def _positions(self, rows: int, columns: int) -> Float[Tensor, "1 t d"]:
        """The position embeddings, resampled to another grid."""
        if rows == columns == POSITION_GRID:
            return self.pos_embed
        first, grid = self.pos_embed.float().split([1, POSITION_GRID**2], dim=1)
        grid = grid.mT.unflatten(2, (POSITION_GRID, POSITION_GRID))
        scale = tuple((length + GRID_OFFSET) / POSITION_GRID for length in (rows, columns))
        resampled = functional.interpolate(grid, scale_factor=scale, mode="bicubic")
        return torch.cat([first, resampled.flatten(2).mT], 1)


class Block(nn.Module):
    """A transformer block whose two branches have learned scales."""

    def __init__(self, size: VitSize) -> None:
        super().__init__()
        width = size.width
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, size.heads)
        self.ls1, self.ls2 = Scale(width), Scale(width)
        self.mlp = nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Tokens to tokens."""
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens)))
        hidden = functional.gelu(self.mlp.fc1(self.norm2(tokens)))
        return tokens + self.ls2(self.mlp.fc2(hidden))


class Attention(nn.Module):
    """Every token looks at every token."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Tokens to tokens."""
        queries, keys, values = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Scale(nn.Module):
    """A learned factor for each channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, values: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """The values times the factors."""
        return values * self.gamma


class ConvStack(nn.Module):
    """Residual convolutions over levels, each of twice the size of the one before, to which features of its own are added.

    Args:
        config: `dim_in`, `dim_res_blocks`, `dim_out` and `resamplers` for each level, and what the blocks are like.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        widths = config["dim_res_blocks"]
        count = len(widths)
        ins, outs = _each(config["dim_in"], count), _each(config["dim_out"], count)
        blocks = _each(config.get("num_res_blocks", 1), count)
        self.input_blocks = nn.ModuleList(_pointwise(a, b) for a, b in zip(ins, widths, strict=True))
        self.resamplers = nn.ModuleList(
            _resampler(kind, *pair)
            for kind, pair in zip(
                _each(config["resamplers"], count - 1, text=True), itertools.pairwise(widths), strict=True
            )
        )
        self.res_blocks = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width, config) for _ in range(number)))
            for width, number in zip(widths, blocks, strict=True)
        )
        self.output_blocks = nn.ModuleList(
            nn.Identity() if out is None else nn.Conv2d(width, out, 1) for width, out in zip(widths, outs, strict=True)
        )

    def forward(self, features: Sequence[Float[Tensor, "b _ _ _"]]) -> list[Float[Tensor, "b _ _ _"]]:
        """The outputs of all levels, from the features of all levels."""
        outputs = []
        carried: Tensor | None = None
        for level, blocks in enumerate(self.res_blocks):
            own = self.input_blocks[level](features[level])
            carried = blocks(own if carried is None else carried + own)
            outputs.append(self.output_blocks[level](carried))
            if level < len(self.resamplers):
                carried = self.resamplers[level](carried)
        return outputs


class ResidualBlock(nn.Module):
    """Two convolutions beside a direct way."""

    def __init__(self, width: int, config: Mapping[str, Any]) -> None:
        super().__init__()
        hidden = width * config.get("dim_times_res_block_hidden", 1)
        activation = ACTIVATIONS[config.get("activation", "relu")]
        self.layers = nn.Sequential(
            _norm(config.get("res_block_in_norm", "layer_norm"), width),
            activation(),
            _conv(width, hidden),
            _norm(config.get("res_block_hidden_norm", "group_norm"), hidden),
            activation(),
            _conv(hidden, width),
        )

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Features to features."""
        return features + self.layers(features)


ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {"relu": nn.ReLU, "leaky_relu": lambda: nn.LeakyReLU(0.2), "silu": nn.SiLU, "elu": nn.ELU}
)


def _each(value: Any, count: int, text: bool = False) -> list[Any]:
    """`value` for each level, if it is not a list of one for each."""
    alone = isinstance(value, str) if text else not isinstance(value, list | tuple)
    return [value] * count if alone else list(value)


def _conv(ins: int, outs: int) -> nn.Conv2d:
    return nn.Conv2d(ins, outs, 3, padding=1, padding_mode="replicate")


def _pointwise(ins: int | None, outs: int) -> nn.Module:
    return nn.Identity() if ins is None else nn.Conv2d(ins, outs, 1)


def _norm(kind: str, width: int) -> nn.Module:
    made: Mapping[str, Callable[[], nn.Module]] = {
        "group_norm": lambda: nn.GroupNorm(width // 32, width),
        "layer_norm": lambda: nn.GroupNorm(1, width),
        "instance_norm": lambda: nn.InstanceNorm2d(width),
        "none": nn.Identity,
    }
    return made[kind]()


def _resampler(kind: str, ins: int, outs: int) -> nn.Module:
    """To twice the size."""
    made: Mapping[str, Callable[[], tuple[nn.Module, ...]]] = {
        "pixel_shuffle": lambda: (_conv(ins, 4 * outs), nn.PixelShuffle(2), _conv(outs, outs)),
        "nearest": lambda: (nn.Upsample(scale_factor=2, mode="nearest"), _conv(ins, outs)),
        "bilinear": lambda: (nn.Upsample(scale_factor=2, mode="bilinear"), _conv(ins, outs)),
        "conv_transpose": lambda: (nn.ConvTranspose2d(ins, outs, 2, 2), _conv(outs, outs)),
    }
    return nn.Sequential(*made[kind]())
