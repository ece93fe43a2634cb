"""The flow transformers: they predict the velocity of a noisy latent, given what the photo shows at each voxel.

`StructureFlow` works on a dense grid (which voxels are occupied), `LatentFlow` on occupied voxels (shape, then texture).
Arguments are those of the released configs, parameter names those of the released checkpoints. Weights may be bfloat16 inside
the blocks (`to_dtype`); inputs, time, modulation, norms and head stay float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Complex64, Float, Int32
from torch import Tensor, nn
from torch.nn import functional

from scenegen.errors import UsageError
from scenegen.pixal3d.attention import preferred_kernels
from scenegen.pixal3d.block import Block, Items, Products, Shown
from scenegen.pixal3d.rotary import Rotation
from scenegen.pixal3d.sampler import Velocity

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
TIME_CHANNELS = 256
"""Width of the sinusoidal embedding of time."""
TIME_PERIOD = 10000.0


class TimestepEmbedder(nn.Module):
    """Time as cosines and sines of 128 frequencies, then two linear layers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(TIME_CHANNELS, channels), nn.SiLU(), nn.Linear(channels, channels))

    def forward(self, t: Float[Tensor, "b"]) -> Float[Tensor, "b c"]:
        """Embeds `t` in [0, 1000]."""
        half = TIME_CHANNELS // 2
        steps = torch.arange(half, dtype=torch.float32, device=t.device)
        angles = t.float()[:, None] * torch.exp(-math.log(TIME_PERIOD) * steps / half)
        return self.mlp(torch.cat([angles.cos(), angles.sin()], dim=1))


class FlowTransformer(nn.Module):
    """What both flows share: the layers, and the forward pass for tokens at voxel coordinates.

    Args:
        resolution: voxels along an edge of the grid.
        in_channels: channels of the latent and whatever is concatenated to it.
        model_channels: width.
        cond_channels: channels of the global tokens.
        out_channels: channels of the velocity.
        num_blocks: blocks.
        num_heads: heads of all attentions.
        mlp_ratio: hidden width of the feed-forward over the width, rounded down.
        proj_in_channels: channels of the back-projected features; None for as many as the global tokens have.
        dtype: of the linear layers inside the blocks: float32, bfloat16 or float16.
        pe_mode: "rope", the only kind of position embedding.
        share_mod: True; blocks share one modulation.
        qk_rms_norm: True; queries and keys of the self-attention are normalised.
        qk_rms_norm_cross: True; those of the cross-attention too.
        image_attn_mode: "proj"; features enter voxel by voxel.
        initialization: how training began; it has no effect here.
        use_checkpoint: recomputes activations in training; it has no effect here.

    Raises:
        UsageError: for a value that this network does not support.
    """

    def __init__(
        self,
        *,
        resolution: int,
        in_channels: int,
        model_channels: int,
        cond_channels: int,
        out_channels: int,
        num_blocks: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        proj_in_channels: int | None = None,
        dtype: str = "float32",
        pe_mode: str = "rope",
        share_mod: bool = True,
        qk_rms_norm: bool = True,
        qk_rms_norm_cross: bool = True,
        image_attn_mode: str = "proj",
        initialization: str = "scaled",
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        _require("dtype", dtype, tuple(DTYPES))
        _require("pe_mode", pe_mode, ("rope",))
        _require("image_attn_mode", image_attn_mode, ("proj",))
        for name, value in (
            ("share_mod", share_mod),
            ("qk_rms_norm", qk_rms_norm),
            ("qk_rms_norm_cross", qk_rms_norm_cross),
        ):
            _require(name, value, (True,))
        if num_blocks < 1:
            raise UsageError(f"`num_blocks` is {num_blocks}; give at least 1.")
        if model_channels % (2 * num_heads):
            raise UsageError(
                f"`model_channels` is {model_channels} with `num_heads` {num_heads}; each head needs an even number of "
                f"channels, so give a multiple of {2 * num_heads}."
            )
        self.resolution = resolution
        self.in_channels = in_channels
        self.cond_channels = cond_channels
        self.proj_in_channels = cond_channels if proj_in_channels is None else proj_in_channels
        self.head_dim = model_channels // num_heads
        self.t_embedder = TimestepEmbedder(model_channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(model_channels, 6 * model_channels))
        self.input_layer = nn.Linear(in_channels, model_channels)
        self.blocks = nn.ModuleList(
            Block(model_channels, cond_channels, self.proj_in_channels, num_heads, int(model_channels * mlp_ratio))
            for _ in range(num_blocks)
        )
        self.out_layer = nn.Linear(model_channels, out_channels)
        self.to_dtype(DTYPES[dtype])

    def to_dtype(self, dtype: torch.dtype) -> None:
        """Casts weights and biases of the linear layers inside the blocks, in place.

        All else stays float32: modulation, the gains of the norms, input, time and head.
        """
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                module.to(dtype)

    def compile_blocks(self, backend: str | Callable[..., Any] = "inductor") -> None:
        """Has torch compile the blocks when they first run: once for all of them. Results differ by rounding."""
        for block in self.blocks:
            # Not the module's call: hooks that bring its weights stay outside.
            block.forward = torch.compile(block.forward, dynamic=True, backend=backend)

    def among(
        self, shown: Shown, rotation: Rotation, items: Items, score_bytes: int | None, product_bytes: int | None
    ) -> Velocity:
        """The velocity of noisy tokens [n, ci] at fixed places under a fixed condition.

        What the blocks make of the condition is kept from the first call on if all of it fits into `product_bytes`; None keeps
        nothing. The little that the unconditional velocity needs is kept in any case, unless gradients are wanted.
        """
        dtype = self.blocks[0].self_attn.to_qkv.weight.dtype
        shown = Shown(shown.tokens.to(dtype), shown.voxels.to(dtype))
        size = len(self.blocks) * len(shown.voxels) * self.input_layer.out_features * dtype.itemsize
        keeps = {True: product_bytes is not None and size <= product_bytes, False: product_bytes is not None}
        kept: dict[bool, list[Products | None]] = {each: [None] * len(self.blocks) for each in (True, False)}

        def velocity(x: Float[Tensor, "n ci"], t: Float[Tensor, "b"], conditional: bool) -> Float[Tensor, "n co"]:
            h = self.input_layer(x).to(dtype)
            mod = self.adaLN_modulation(self.t_embedder(t)).to(dtype)
            with preferred_kernels(h.device):
                for index, block in enumerate(self.blocks):
                    condition = kept[conditional][index] or (shown if conditional else None)
                    h, products = block(h, mod, condition, rotation, items, score_bytes)
                    if keeps[conditional]:
                        kept[conditional][index] = products
            h = h.to(x.dtype)
            return self.out_layer(functional.layer_norm(h, h.shape[-1:]))

        return velocity

    def _check_condition(self, cond_global: Tensor, cond_proj: Tensor) -> None:
        if cond_global.shape[-1] != self.cond_channels:
            raise UsageError(
                f"`cond_global` has {cond_global.shape[-1]} channels; this network takes {self.cond_channels}. "
                f"Give the features its config names."
            )
        if cond_proj.shape[-1] != self.proj_in_channels:
            raise UsageError(
                f"`cond_proj` has {cond_proj.shape[-1]} channels; this network takes {self.proj_in_channels}. "
                f"Give low-resolution features alone, or with the up-sampled ones, as its config says."
            )


class StructureFlow(FlowTransformer):
    """Velocity of a dense latent grid (released as `SparseStructureFlowModel`)."""

    @property
    def rope_phases(self) -> Complex64[Tensor, "n pairs"]:
        """Rotary phases of the grid, x outermost. Released files store them beside the weights; here they are computed."""
        return self.rotation_on(self.input_layer.weight.device).phases

    def rotation_on(self, device: torch.device) -> Rotation:
        """Rotation of the grid, x outermost, on `device`, which need not be that of the weights."""
        axis = torch.arange(self.resolution, device=device)
        grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
        return Rotation.at(grid.flatten(0, 2), self.head_dim)

    def at(
        self,
        cond_global: Float[Tensor, "b g cg"],
        cond_proj: Float[Tensor, "b n p"],
        *,
        score_bytes: int | None = None,
        product_bytes: int | None = None,
    ) -> Velocity:
        """The velocity under a fixed condition, for the steps of a sampler.

        Args:
            cond_global: global tokens of the photo.
            cond_proj: back-projected feature of each voxel, z fastest.
            score_bytes: as in `attend`.
            product_bytes: as in `among`.

        Returns:
            (x [b ci r r r], 1000 t [b], conditional) -> velocity [b co r r r].

        Raises:
            UsageError: if channels or sizes are not those of the config.
        """
        batch, voxels = len(cond_global), self.resolution**3
        self._check_condition(cond_global, cond_proj)
        if cond_proj.shape[:2] != (batch, voxels):
            raise UsageError(
                f"`cond_proj` is {tuple(cond_proj.shape)}; give [{batch}, {voxels}, {self.proj_in_channels}], one feature "
                "per voxel."
            )
        device = cond_proj.device
        rotation = self.rotation_on(device)
        items = Items()
        if batch > 1:
            rotation = Rotation(rotation.cos.repeat(batch, 1, 1), rotation.sin.repeat(batch, 1, 1))
            items = Items(batch * (voxels,), torch.arange(batch, device=device).repeat_interleave(voxels))
        among = self.among(Shown(cond_global, cond_proj.flatten(0, 1)), rotation, items, score_bytes, product_bytes)

        def velocity(x: Tensor, t: Tensor, conditional: bool) -> Tensor:
            if x.shape != (batch, self.in_channels, *3 * (self.resolution,)) or len(t) != batch:
                raise UsageError(
                    f"`x` is {tuple(x.shape)} and `t` {tuple(t.shape)}; this network takes [{batch}, {self.in_channels}, "
                    f"{self.resolution}, {self.resolution}, {self.resolution}] and [{batch}]."
                )
            tokens = among(x.flatten(2).transpose(1, 2).flatten(0, 1), t, conditional)
            return tokens.unflatten(0, (batch, voxels)).transpose(1, 2).unflatten(2, x.shape[2:])

        return velocity

    def forward(
        self,
        x: Float[Tensor, "b ci r r r"],
        t: Float[Tensor, "b"],
        cond_global: Float[Tensor, "b g cg"],
        cond_proj: Float[Tensor, "b n p"],
        *,
        score_bytes: int | None = None,
    ) -> Float[Tensor, "b co r r r"]:
        """The velocity at `x`, once.

        Args:
            x: noisy latent; the axes of the grid are x, y, z of the latent frame.
            t: 1000 times the time of each item; 1000 is pure noise.
            cond_global: as in `at`; zeros for the unconditional velocity.
            cond_proj: likewise.
            score_bytes: as in `attend`.

        Raises:
            UsageError: if channels or sizes are not those of the config.
        """
        return self.at(cond_global, cond_proj, score_bytes=score_bytes)(x, t, True)


class LatentFlow(FlowTransformer):
    """Velocity of latents at occupied voxels (released as `ElasticSLatFlowModel` and `SLatFlowModel`)."""

    def at(
        self,
        coords: Int32[Tensor, "n 4"],
        cond_global: Float[Tensor, "b g cg"],
        cond_proj: Float[Tensor, "n p"],
        concat: Float[Tensor, "n cc"] | None = None,
        *,
        score_bytes: int | None = None,
        product_bytes: int | None = None,
    ) -> Velocity:
        """The velocity at fixed voxels under a fixed condition, for the steps of a sampler.

        Args:
            coords: (item, x, y, z) of each voxel; voxels of one item are contiguous, and items are in order.
            cond_global: global tokens of the photo.
            cond_proj: back-projected feature of each voxel.
            concat: further channels after those of the state: the normalised shape latent, for texture.
            score_bytes: as in `attend`.
            product_bytes: as in `among`.

        Returns:
            (x [n c], 1000 t [b], conditional) -> velocity [n co].

        Raises:
            UsageError: if channels or sizes are not those of the config, or an item is empty or not contiguous.
        """
        batch = len(cond_global)
        self._check_condition(cond_global, cond_proj)
        present, lengths = torch.unique_consecutive(coords[:, 0], return_counts=True)
        if present.tolist() != list(range(batch)):
            raise UsageError(
                f"`coords` names items in the order {present.tolist()[:8]}; give {batch} items as `cond_global` has them, "
                f"0 to {batch - 1}, each with its voxels together and at least one."
            )
        items = Items() if batch == 1 else Items(tuple(lengths.tolist()), coords[:, 0].long())
        among = self.among(
            Shown(cond_global, cond_proj),
            Rotation.at(coords[:, 1:], self.head_dim),
            items,
            score_bytes,
            product_bytes,
        )
        extra = 0 if concat is None else concat.shape[1]

        def velocity(x: Tensor, t: Tensor, conditional: bool) -> Tensor:
            if x.shape[1] + extra != self.in_channels:
                raise UsageError(
                    f"`x` has {x.shape[1]} channels and `concat` {extra}; this network takes {self.in_channels} together. "
                    f"Texture needs the shape latent as `concat`, shape needs none."
                )
            if len(t) != batch:
                raise UsageError(f"`t` names {len(t)} items and `cond_global` {batch}; give one of each per item.")
            return among(x if concat is None else torch.cat([x, concat], dim=1), t, conditional)

        return velocity

    def forward(
        self,
        x: Float[Tensor, "n c"],
        coords: Int32[Tensor, "n 4"],
        t: Float[Tensor, "b"],
        cond_global: Float[Tensor, "b g cg"],
        cond_proj: Float[Tensor, "n p"],
        concat: Float[Tensor, "n cc"] | None = None,
        *,
        score_bytes: int | None = None,
    ) -> Float[Tensor, "n co"]:
        """The velocity at `x`, once.

        Args:
            x: noisy latents.
            coords: as in `at`.
            t: 1000 times the time of each item; 1000 is pure noise.
            cond_global: as in `at`; zeros for the unconditional velocity.
            cond_proj: likewise.
            concat: as in `at`.
            score_bytes: as in `attend`.

        Raises:
            UsageError: if channels or sizes are not those of the config, or an item is empty or not contiguous.
        """
        return self.at(coords, cond_global, cond_proj, concat, score_bytes=score_bytes)(x, t, True)


def count_flops(config: Mapping[str, Any], tokens: int, global_tokens: int = 5) -> int:
    """Floating-point operations of one forward pass over one item, a multiply-add as two: 2 P N and the attention.

    Only matrix products are counted: all but a few per mille.

    Args:
        config: arguments of a flow transformer.
        tokens: voxels N.
        global_tokens: global tokens of the photo.
    """
    width, context = config["model_channels"], config["cond_channels"]
    hidden = int(width * config["mlp_ratio"])
    projected = config.get("proj_in_channels") or context
    voxel_weights = 4 * width * width + 2 * width * width + projected * width + 2 * width * hidden
    context_weights = context * 2 * width
    per_block = (
        2 * voxel_weights * tokens
        + 2 * context_weights * global_tokens
        + 4 * width * tokens * tokens
        + 4 * width * tokens * global_tokens
    )
    ends = 2 * tokens * width * (config["in_channels"] + config["out_channels"])
    time = 2 * width * (TIME_CHANNELS + width + 6 * width)
    return config["num_blocks"] * per_block + ends + time


def _require(name: str, received: object, allowed: tuple[object, ...]) -> None:
    if received not in allowed:
        raise UsageError(f"`{name}` is {received!r}; allowed: {', '.join(map(repr, allowed))}.")
