"""The image network: DINOv3 (Siméoni et al. 2025, arXiv:2508.10104), built by transformers, under its released names."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from jaxtyping import Float
from torch import Tensor, nn

from scenegen.compute.torch_env import full_packages
from scenegen.errors import UsageError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

VITL16: Mapping[str, Any] = MappingProxyType(
    {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "patch_size": 16,
        "num_register_tokens": 4,
        "image_size": 224,
        "rope_theta": 100.0,
        "layer_norm_eps": 1e-5,
        "hidden_act": "gelu",
        "query_bias": True,
        "key_bias": False,
        "value_bias": True,
        "proj_bias": True,
        "mlp_bias": True,
        "use_gated_mlp": False,
    }
)
"""The released Pixal3D's: facebook/dinov3-vitl16-pretrain-lvd1689m."""


class Dinov3(nn.Module):
    """DINOv3 with a last layer norm without scale and shift, and the released checkpoint's names.

    The checkpoint's own `norm` is loaded, so that every tensor is accounted for, but Pixal3D does not use it.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Builds the network with random weights.

        Args:
            config: arguments of transformers' `DINOv3ViTConfig`.

        Raises:
            WeightsError: if transformers is missing.
        """
        super().__init__()
        with full_packages():
            from transformers import DINOv3ViTConfig, DINOv3ViTModel

        network = DINOv3ViTModel(DINOv3ViTConfig(**config))
        self.embeddings = network.embeddings
        self.rope_embeddings = network.rope_embeddings  # holds no weights
        # transformers moves its layers between versions; ours are where the released names say.
        self.layer = getattr(network, "model", network).layer
        self.norm = network.norm
        self.patch_size: int = network.config.patch_size
        self.special_tokens: int = 1 + network.config.num_register_tokens
        """The class token and the registers come first."""
        self.eval()

    def forward(self, images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b t c"]:
        """Tokens of normalised images: class, registers, then patches row by row.

        Raises:
            UsageError: if the images' size is not a multiple of the patch.
        """
        size = images.shape[-1]
        if size % self.patch_size:
            raise UsageError(
                f"`images` are {size} pixels wide; they must be a multiple of the patch, {self.patch_size}. "
                "Set `image_size` to one."
            )
        images = images.to(self.embeddings.patch_embeddings.weight.dtype)
        tokens = self.embeddings(images)
        positions = self.rope_embeddings(images)
        for layer in self.layer:
            tokens = layer(tokens, position_embeddings=positions)
        return F.layer_norm(tokens, tokens.shape[-1:])


def normalised(images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b 3 s s"]:
    """Images in [0, 1] with ImageNet's mean and deviation taken out."""
    mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (images - mean) / std
