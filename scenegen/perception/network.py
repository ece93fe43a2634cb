"""The embedded perception network: one picture in; depth, relief, objects, names, field of view and gravity out.

The trunk is EfficientNet-Lite. Its two coarsest levels meet in a few transformer blocks, which see the whole picture; a feature
pyramid (Lin et al. 2017, arXiv:1612.03144) brings their outcome to a quarter of the picture's resolution.

Objects answer prompts (Kirillov et al. 2023, arXiv:2304.02643): clicks in and out, or a box. A small decoder looks from the
prompt at the coarse features, and says the weights of a mask over the fine ones (dynamic convolution; Tian et al. 2020,
arXiv:2003.05664), how well that mask will fit, whether there is an object at all, and what it is called. To find every object,
each cell of a grid is one click.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from scenegen.perception.trunk import VARIANTS, Trunk

STRIDE = 4
"""Pixels of the picture per cell of the dense outputs."""
MULTIPLE = 32
"""Both sides of the picture must be multiples of this."""

FOCAL_BINS = 32
FOCAL_RANGE = (0.3, 3.0)
"""Focal length over the picture's longer side; the bins are even in its logarithm."""
PHOTO_FOCAL, PHOTO_FOCAL_SPREAD = 0.866, 0.35
"""Focal length of an unknown photo (60 degrees across: between normal lenses and telephones), and the standard
deviation of its logarithm."""
FOCAL_TEMPERATURE = 3.0
"""What the logits of the focal length are divided by: the network is too sure of itself. With it errors on held-out renders
are about as large as said (1.2 standard deviations; 2.0 without)."""

RELIEF_UNITS = 8.0
"""Reliefs are about this much smaller than depths."""
PLACE_TERMS = 6
"""Of a quadratic function of the place in the picture: 1, x, y, xx, xy, yy."""
WAVES = 16
"""Frequencies of the encoding of a place, per axis."""
DROPPED, DROPPED_FOR_NAMES = 0.1, 0.3
"""Shares of the values dropped while training: in the transformer blocks, and of what names are told from."""
INSIDE, OUTSIDE, CORNER_LOW, CORNER_HIGH, ABSENT = range(5)
"""Kinds of a prompt's points. A box is its corners of least and of greatest x and y."""


@dataclass(frozen=True)
class PerceptionSettings:
    """Sizes of the network. They are stored with its weights."""

    trunk: str = "lite2"
    width: int = 192
    """Of the tokens, which are the cells of stride 16."""
    heads: int = 6
    context_blocks: int = 4
    decoder_blocks: int = 3
    fine: int = 128
    """Channels of the pyramid at strides 8 and 4."""
    kernel: int = 64
    """Channels of the features masks are made of."""
    nouns: tuple[str, ...] = ()
    """What objects can be called."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the network says of a batch of pictures before it is asked for objects; h and w are a quarter of theirs."""

    log_depth: Float[Tensor, "b h w"]
    """Natural logarithm of the z-depth, up to a constant of the picture."""
    log_error: Float[Tensor, "b h w"]
    """Logarithm of the scale of the Laplace distribution `log_depth` is the middle of."""
    relief: Float[Tensor, "b h w"]
    """Of a picture that shows one object before grey: natural logarithm of its z-depth, over the picture's width at distance 1,
    up to a constant."""
    relief_log_error: Float[Tensor, "b h w"]
    """Logarithm of `RELIEF_UNITS` times the scale of the Laplace distribution `relief` is the middle of."""
    normal: Float[Tensor, "b 3 h w"]
    """Of the same: unit normals in the camera's frame (x right, y down, z forward)."""
    object_logit: Float[Tensor, "b h w"]
    """Logit of showing an object rather than background."""
    focal_logits: Float[Tensor, "b bins"]
    """Of the bins of the focal length over the picture's longer side: what the picture says, whatever is usual."""
    down: Float[Tensor, "b 3"]
    """Unit vector of gravity in the camera's frame (x right, y down, z forward)."""
    features: Features


@dataclass(frozen=True, eq=False)
class Features:
    """What prompts are answered from."""

    tokens: Float[Tensor, "b d h16 w16"]
    fine: Float[Tensor, "b f h w"]
    """What clicks look at."""
    masks: Float[Tensor, "b k h w"]
    """What masks are made of."""
    coarse: Float[Tensor, "b c h32 w32"]
    """The trunk's last output, for names."""


@dataclass(frozen=True, eq=False)
class Prompts:
    """Questions about a batch of pictures: n of each, of at most p points."""

    points: Float[Tensor, "b n p 2"]
    """x and y from the picture's centre, in units of its longer side."""
    kinds: Int[Tensor, "b n p"]
    """`INSIDE` and so on."""


@dataclass(frozen=True, eq=False)
class Answers:
    """One mask for each prompt."""

    logits: Float[Tensor, "b n h w"]
    fit: Float[Tensor, "b n"]
    """Logit of the intersection over union the mask will have with the object."""
    object_logit: Float[Tensor, "b n"]
    """Logit of there being an object."""
    nouns: Float[Tensor, "b n c"]
    """Logits of the names."""


class ConvBlock(nn.Module):
    """A 3x3 convolution, group norm and ReLU."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(8, out_channels)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Convolves, norms and rectifies."""
        return functional.relu(self.norm(self.conv(x)))


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


class Attention(nn.Module):
    """Multi-head attention of `x` to `memory`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        memory: Float[Tensor, "b m d"],
        visible: Bool[Tensor, "b 1 1 m"] | None = None,
    ) -> Float[Tensor, "b n d"]:
        """Attends; `visible` says which of the memory may be looked at."""
        query = self.query(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
        key, value = self.key_value(memory).unflatten(2, (2, self.heads, -1)).unbind(2)
        seen = functional.scaled_dot_product_attention(
            query, key.transpose(1, 2), value.transpose(1, 2), attn_mask=visible
        )
        return self.out(seen.transpose(1, 2).flatten(2))


class FeedForward(nn.Sequential):
    """Two linear maps with a GELU between."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(DROPPED))


class ContextBlock(nn.Module):
    """A transformer block over the cells of a map and one token beside it; each cell first looks at its neighbours."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.near = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_forward = nn.LayerNorm(width)
        self.forward_ = FeedForward(width)

    def forward(
        self, cells: Float[Tensor, "b d h w"], token: Float[Tensor, "b 1 d"]
    ) -> tuple[Float[Tensor, "b d h w"], Float[Tensor, "b 1 d"]]:
        """One block."""
        shape = cells.shape[2:]
        cells = cells + self.near(cells)
        x = torch.cat([token, cells.flatten(2).transpose(1, 2)], dim=1)
        normed = self.norm(x)
        x = x + self.attention(normed, normed)
        x = x + self.forward_(self.norm_forward(x))
        return x[:, 1:].transpose(1, 2).unflatten(2, shape), x[:, :1]


class PlaceEncoding(nn.Module):
    """Places in the picture as vectors: waves of fixed, growing frequency, then a linear map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(4 * WAVES, width)

    def forward(self, places: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n d"]:
        """Encodes x and y, in units of the picture's longer side."""
        frequency = torch.pi * torch.exp2(torch.linspace(0, 6, WAVES, device=places.device))
        angles = (places[..., None] * frequency).flatten(-2)
        return self.linear(torch.cat([angles.sin(), angles.cos()], dim=-1))


class DecoderBlock(nn.Module):
    """What a prompt knows looks at itself, then at the picture."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_self, self.norm_cross, self.norm_forward = (nn.LayerNorm(width) for _ in range(3))
        self.self_attention = Attention(width, heads)
        self.cross_attention = Attention(width, heads)
        self.forward_ = FeedForward(width)

    def forward(
        self,
        x: Float[Tensor, "b n t d"],
        visible: Bool[Tensor, "b n t"],
        memory: Float[Tensor, "b m d"],
    ) -> Float[Tensor, "b n t d"]:
        """One block; prompts do not see each other."""
        batch, count, tokens = visible.shape
        normed = self.norm_self(x).flatten(0, 1)
        x = x + self.self_attention(normed, normed, visible.flatten(0, 1)[:, None, None]).unflatten(0, (batch, count))
        x = x + self.cross_attention(self.norm_cross(x).flatten(1, 2), memory).unflatten(1, (count, tokens))
        return x + self.forward_(self.norm_forward(x))


class PromptDecoder(nn.Module):
    """From prompts to masks, how well they fit, and names."""

    def __init__(self, settings: PerceptionSettings, coarse: int) -> None:
        super().__init__()
        width = settings.width
        self.kernel = settings.kernel
        self.place = PlaceEncoding(width)
        self.kind = nn.Embedding(ABSENT + 1, width)
        self.at_tokens = nn.Linear(width, width)
        self.at_fine = nn.Linear(settings.fine, width)
        self.answer = nn.Parameter(torch.zeros(width))
        self.memory = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(DecoderBlock(width, settings.heads) for _ in range(settings.decoder_blocks))
        self.norm = nn.LayerNorm(width)
        self.weights = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Linear(width, settings.kernel + PLACE_TERMS)
        )
        self.scores = nn.Linear(width, 2)
        self.noun = nn.Sequential(
            nn.Linear(2 * width + coarse, width), nn.GELU(), nn.Linear(width, max(1, len(settings.nouns)))
        )

    def forward(self, features: Features, prompts: Prompts) -> Answers:
        """Answers every prompt."""
        height, width = features.tokens.shape[2:]
        cells = places(height, width, features.tokens.device)
        memory = features.tokens.flatten(2).transpose(1, 2) + self.place(cells).flatten(0, 1)
        memory = self.memory(memory)
        x = self.tokens(features, prompts)
        absent = prompts.kinds == ABSENT
        visible = torch.cat([torch.ones_like(absent[..., :1]), ~absent], dim=-1)
        for block in self.blocks:
            x = block(x, visible, memory)
        answer = self.norm(x[..., 0, :])
        with torch.autocast(answer.device.type, enabled=False):
            weights = self.weights(answer.float())
            scores = self.scores(answer.float())
            logits = torch.einsum("bnk,bkhw->bnhw", weights[..., : self.kernel], features.masks.float())
            logits = logits + self.by_place(weights[..., self.kernel :], prompts, features.masks.shape[2:])
        return Answers(logits, scores[..., 0], scores[..., 1], self.names(features, answer, logits))

    def tokens(self, features: Features, prompts: Prompts) -> Float[Tensor, "b n t d"]:
        """One token to answer with, and one per point: where it is, of what kind, and what the picture shows there."""
        height, width = features.fine.shape[2:]
        # From units of the longer side to those of `grid_sample`: -1 to 1 between the borders.
        reach = 2 * max(height, width) / torch.tensor([width, height], device=prompts.points.device)
        grid = prompts.points * reach
        clicked = (prompts.kinds <= OUTSIDE)[..., None]
        seen = self.at_tokens(_sampled(features.tokens, grid)) + self.at_fine(_sampled(features.fine, grid))
        points = self.place(prompts.points) + self.kind(prompts.kinds) + clicked * seen
        answer = self.answer.expand(*points.shape[:2], 1, -1)
        return torch.cat([answer, points.to(answer.dtype)], dim=2)

    def by_place(
        self, terms: Float[Tensor, "b n 6"], prompts: Prompts, shape: tuple[int, int]
    ) -> Float[Tensor, "b n h w"]:
        """A quadratic function of the place around the prompt: an ellipse, roughly."""
        used = ((prompts.kinds != OUTSIDE) & (prompts.kinds != ABSENT)).float()[..., None]
        x0, y0 = ((prompts.points * used).sum(2) / used.sum(2).clamp(min=1)).unbind(-1)
        c, bx, by, xx, xy, yy = (terms * 4).unbind(-1)
        about_centre = torch.stack(
            [
                c - bx * x0 - by * y0 + xx * x0**2 + xy * x0 * y0 + yy * y0**2,
                bx - 2 * xx * x0 - xy * y0,
                by - 2 * yy * y0 - xy * x0,
                xx,
                xy,
                yy,
            ],
            dim=-1,
        )
        x, y = places(*shape, terms.device).unbind(-1)
        powers = torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y])
        return torch.einsum("bnq,qhw->bnhw", about_centre, powers)

    def names(
        self, features: Features, answer: Float[Tensor, "b n d"], logits: Float[Tensor, "b n h w"]
    ) -> Float[Tensor, "b n c"]:
        """Logits of the names, from what the mask covers."""
        share = logits.detach().sigmoid()
        pooled = [answer]
        for values in (features.tokens, features.coarse):
            weight = functional.interpolate(share, size=values.shape[2:], mode="area").flatten(2) + 1e-6
            mean = torch.einsum("bnp,bcp->bnc", weight / weight.sum(2, keepdim=True), values.flatten(2).float())
            pooled.append(mean.to(answer.dtype))
        x = functional.dropout(torch.cat(pooled, dim=-1), DROPPED_FOR_NAMES, self.training)
        return self.noun(x).float()


class CameraHead(nn.Module):
    """Focal length and gravity, from a coarse grid of features, since where things are matters, and from the picture's token."""

    GRID = 4

    def __init__(self, coarse: int, width: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(coarse, 32, 1)
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(32 * self.GRID**2 + width, 128)
        self.out = nn.Linear(128, FOCAL_BINS + 3)

    def forward(
        self, coarse: Float[Tensor, "b c h w"], token: Float[Tensor, "b d"]
    ) -> tuple[Float[Tensor, "b bins"], Float[Tensor, "b 3"]]:
        """Logits of the focal length's bins, and the direction of gravity."""
        with torch.autocast(coarse.device.type, enabled=False):
            pooled = functional.adaptive_avg_pool2d(functional.relu(self.reduce(coarse.float())), self.GRID)
            x = torch.cat([pooled.flatten(1), self.norm(token.float())], dim=1)
            out = self.out(functional.relu(self.hidden(x)))
        return out[:, :FOCAL_BINS], functional.normalize(out[:, FOCAL_BINS:], dim=1)


class PerceptionNetwork(nn.Module):
    """The whole network."""

    def __init__(self, settings: PerceptionSettings) -> None:
        super().__init__()
        self.settings = settings
        variant = VARIANTS[settings.trunk]
        fourth, eighth, sixteenth, last = variant.tap_channels
        width, fine = settings.width, settings.fine
        self.trunk = Trunk(variant)
        self.from_sixteenth = nn.Conv2d(sixteenth, width, 1)
        self.from_last = nn.Conv2d(last, width, 1)
        self.place = PlaceEncoding(width)
        self.picture_token = nn.Parameter(torch.zeros(width))
        self.context = nn.ModuleList(ContextBlock(width, settings.heads) for _ in range(settings.context_blocks))
        self.norm = nn.GroupNorm(1, width)
        self.to_eighth, self.from_eighth = nn.Conv2d(width, fine, 1), nn.Conv2d(eighth, fine, 1)
        self.eighth = nn.Sequential(ConvBlock(fine, fine), ConvBlock(fine, fine))
        self.from_fourth = nn.Conv2d(fourth, fine, 1)
        self.fourth = ConvBlock(fine, fine)
        self.depth = DenseHead(fine, 2)
        self.relief = DenseHead(fine, 5)
        self.objects = DenseHead(fine, 1 + settings.kernel)
        self.camera = CameraHead(last, width)
        self.decoder = PromptDecoder(settings, last)

    def forward(self, pictures: Float[Tensor, "b 3 h w"]) -> Prediction:
        """What is seen in `pictures`: sRGB in 0..1, both sides multiples of 32."""
        fourth, eighth, sixteenth, last = self.trunk((pictures * 255 - 127) / 128)
        tokens = self.from_sixteenth(sixteenth) + _enlarged(self.from_last(last), sixteenth)
        cells = places(tokens.shape[2], tokens.shape[3], tokens.device)
        tokens = tokens + self.place(cells).permute(2, 0, 1)
        token = self.picture_token.expand(len(tokens), 1, -1).to(tokens.dtype)
        for block in self.context:
            tokens, token = block(tokens, token)
        tokens = self.norm(tokens)
        x = self.eighth(_enlarged(self.to_eighth(tokens), eighth) + self.from_eighth(eighth))
        fine = self.fourth(_enlarged(x, fourth) + self.from_fourth(fourth))
        depth, relief, objects = self.depth(fine), self.relief(fine), self.objects(fine)
        focal_logits, down = self.camera(last, token[:, 0])
        return Prediction(
            log_depth=depth[:, 0],
            log_error=depth[:, 1].clamp(-5.0, 2.0),
            relief=relief[:, 0],
            relief_log_error=relief[:, 1].clamp(-5.0, 2.0),
            normal=functional.normalize(relief[:, 2:], dim=1),
            object_logit=objects[:, 0],
            focal_logits=focal_logits,
            down=down,
            features=Features(tokens, fine, objects[:, 1:], last),
        )


def places(height: int, width: int, device: torch.device) -> Float[Tensor, "h w 2"]:
    """x and y of the centres of a map's cells from the picture's centre, in units of its longer side."""
    y, x = torch.meshgrid(
        torch.arange(height, device=device) + 0.5 - height / 2,
        torch.arange(width, device=device) + 0.5 - width / 2,
        indexing="ij",
    )
    return torch.stack([x, y], dim=-1) / max(height, width)


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


def _enlarged(x: Float[Tensor, "b c h w"], like: Float[Tensor, "b _c h2 w2"]) -> Float[Tensor, "b c h2 w2"]:
    return functional.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


def _sampled(values: Float[Tensor, "b c h w"], grid: Float[Tensor, "b n p 2"]) -> Float[Tensor, "b n p c"]:
    return functional.grid_sample(values.float(), grid, padding_mode="border", align_corners=False).permute(0, 2, 3, 1)
