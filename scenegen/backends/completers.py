"""Completers of partly hidden objects: none, closed outlines, Qwen-Image-Edit, Stable Diffusion XL inpainting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from scenegen.compute.runtime import Runtime
from scenegen.config import NoCompletionConfig, OutlineConfig, QwenEditConfig, SdxlInpaintingConfig
from scenegen.registry import Completer
from scenegen.weights_registry.editors import QWEN_DEMAND, QWEN_EDIT_NAME, SDXL_INPAINTING_NAME, sdxl_demand
from scenegen.weights_registry.needed import unless_given

if TYPE_CHECKING:
    from scenegen.completion import PartView, WholeView

PACKAGES = ("diffusers>=0.42", "transformers>=5.24")


def _none(view: PartView, seed: int, config: NoCompletionConfig, runtime: Runtime) -> WholeView:
    from scenegen.completion import WholeView

    return WholeView(view.image, view.seen, config.method, "none: no weights")


def _outline(view: PartView, seed: int, config: OutlineConfig, runtime: Runtime) -> WholeView:
    from scenegen.completion.outline import complete_outline

    return complete_outline(view)


def _qwen(view: PartView, seed: int, config: QwenEditConfig, runtime: Runtime) -> WholeView:
    from scenegen.completion.qwen import complete_qwen

    return complete_qwen(view, seed, config, runtime)


def _qwen_weights(config: QwenEditConfig) -> Mapping[str, str]:
    from scenegen.completion.editing import editor_weights

    return editor_weights(QWEN_EDIT_NAME, config.checkpoint)


def _sdxl(view: PartView, seed: int, config: SdxlInpaintingConfig, runtime: Runtime) -> WholeView:
    from scenegen.completion.sdxl import complete_sdxl

    return complete_sdxl(view, seed, config, runtime)


def _sdxl_weights(config: SdxlInpaintingConfig) -> Mapping[str, str]:
    from scenegen.completion.editing import editor_weights

    return editor_weights(SDXL_INPAINTING_NAME, config.checkpoint)


NONE = Completer(config=NoCompletionConfig, run=_none, gives=())
OUTLINE = Completer(config=OutlineConfig, run=_outline, gives=("masks",), largest_crop=384)
QWEN_IMAGE_EDIT = Completer(
    config=QwenEditConfig,
    run=_qwen,
    gives=("picture", "masks"),
    weights=_qwen_weights,
    licence="Apache-2.0",
    needs=lambda config: unless_given([QWEN_EDIT_NAME], config.checkpoint),
    on_card=lambda config: QWEN_DEMAND,
    packages=PACKAGES,
    extra="full",
)
SDXL_INPAINTING = Completer(
    config=SdxlInpaintingConfig,
    run=_sdxl,
    gives=("picture", "masks"),
    weights=_sdxl_weights,
    licence="OpenRAIL++",
    needs=lambda config: unless_given([SDXL_INPAINTING_NAME], config.checkpoint),
    on_card=lambda config: sdxl_demand(config.side),
    packages=PACKAGES,
    extra="full",
)
