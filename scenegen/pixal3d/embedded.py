"""`generate: embedded`: the compact generator whose weights are part of the package."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from scenegen.errors import WeightsError
from scenegen.perception.network import Trunk
from scenegen.pixal3d.compact import CompactGenerator, CompactSettings
from scenegen.torch_env import require_exact

logger = logging.getLogger(__name__)

WEIGHTS = "generator.safetensors"
LICENCE = "Apache-2.0 (weights of this package; trunk from EfficientNet-Lite0, Apache-2.0)"
TRUNK_LEVELS = 3
"""Feature maps the generator uses: those up to a sixteenth of the picture."""
TRUNK_BLOCKS = 11
"""Blocks of the trunk up to there."""


class ImageTrunk(nn.Module):
    """The finer levels of the image trunk, from pictures in [0, 1]."""

    def __init__(self, whole: Trunk) -> None:
        super().__init__()
        whole.blocks = whole.blocks[:TRUNK_BLOCKS]
        self.network = whole

    def forward(self, pictures: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b _c _h _w"]]:
        """Feature maps at a quarter, an eighth and a sixteenth."""
        return self.network((pictures * 255 - 127) / 128)[:TRUNK_LEVELS]


def save_generator(generator: CompactGenerator, path: Path, metadata: Mapping[str, str]) -> None:
    """Writes the weights in half precision, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_suffix(".partial")
    state = {name: value.detach().half().contiguous() for name, value in generator.state_dict().items()}
    save_file(state, whole, metadata=dict(metadata))
    whole.replace(path)


def load_generator(path: Path, settings: CompactSettings) -> CompactGenerator:
    """The network with the weights of `path`, in float32.

    Raises:
        WeightsError: where the file is absent, damaged or of another network.
    """
    generator = CompactGenerator(ImageTrunk(Trunk()), settings)
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}, part of this package, cannot be read ({error}); install the package again.") from error
    expected = generator.state_dict()
    require_exact(
        path,
        expected.keys() - state.keys(),
        state.keys() - expected.keys(),
        [name for name in expected.keys() & state.keys() if expected[name].shape != state[name].shape],
    )
    generator.load_state_dict({name: value.float() for name, value in state.items()})
    return generator.eval()
