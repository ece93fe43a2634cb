"""Locates or fetches the three models that Pixal3D needs."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from scenegen.compute.residency import Demand
from scenegen.compute.runtime import Runtime
from scenegen.errors import WeightsError
from scenegen.weights_registry.convert import as_safetensors
from scenegen.weights_registry.download import Progress, fetch
from scenegen.weights_registry.local import digest_of, locate, locate_all
from scenegen.weights_registry.models import registered

logger = logging.getLogger(__name__)

PIXAL3D, PIXAL3D_MV, DINOV3, NAF = "pixal3d", "pixal3d-mv", "dinov3-vitl16", "naf"
PARTS: Mapping[Literal["one", "several"], Sequence[str]] = {
    "one": (PIXAL3D, DINOV3, NAF),
    "several": (PIXAL3D_MV, DINOV3, NAF),
}
"""Models for one picture of an object, and for several."""


FLOWS_GB, DECODERS_GB, DINOV3_GB = (2.71, 2.81, 2.81, 2.81), (0.15, 0.95, 0.95), 1.21
"""Weights as they are on a card, in bfloat16 and float16, DINOv3 in float32; 10^9 bytes."""
WORKING_GB, WORKING_KB_PER_TOKEN = 1.4, 210.0
"""What is computed in: most of it is the surface, of about 263 voxels of the finest grid for each token. From 7.6 GB measured on
an H200 at 25,119 tokens (docs/gpu.md), less 0.13 KB a voxel that the decoders have saved since."""


def pixal3d_demand(max_tokens: int) -> Demand:
    """What Pixal3D needs of a graphics card.

    Examples:
        >>> released = pixal3d_demand(49_152)
        >>> [round(released.peak(kept), 1) for kept in ("resident", "staged", "streamed")]
        [26.1, 14.5, 12.7]
    """
    # Decoders are never streamed, and DINOv3 is whenever not everything is resident.
    working = WORKING_GB + WORKING_KB_PER_TOKEN * max_tokens / 1e6
    return Demand(networks=(*FLOWS_GB, *DECODERS_GB, DINOV3_GB), working=working, layer=max(DECODERS_GB))


def locate_pixal3d(runtime: Runtime, pictures: Literal["one", "several"] = "one") -> tuple[Path, Path, Path]:
    """Pixal3D's fetched weights; the first call converts NAF's checkpoint.

    Returns:
        The folder with the pipeline's file, DINOv3's safetensors file, and NAF's.

    Raises:
        WeightsError: if a model is absent or damaged.
        ResourceError: if the converted checkpoint cannot be written.
    """
    folder, dino_folder, naf_folder = locate_all(PARTS[pictures], runtime)
    return folder, dinov3_weights(dino_folder), naf_weights(naf_folder)


def obtain(names: Sequence[str], runtime: Runtime, progress: Progress | None = None) -> tuple[Path, ...]:
    """Folders of models, in the order of `names`; missing ones are fetched unless the run is offline.

    Raises:
        UsageError: if no model has one of the names.
        WeightsError: if any is absent or damaged and the run is offline, or one cannot be fetched.
        ResourceError: if the models folder cannot be written.
    """
    if runtime.offline:
        return locate_all(names, runtime)
    folders = []
    for name in names:
        try:
            folders.append(locate(name, runtime))
        except WeightsError as lacking:
            logger.info("%s Fetching them now.", lacking)
            folders.append(fetch(name, runtime, progress))
    return tuple(folders)


def pixal3d_name(name: str, revision: str | None) -> str:
    """The name of `name`, Pixal3D's weights for one picture or for several, at a revision; None is the registered one."""
    pinned = registered(name).revision
    if revision in (None, pinned):
        return name
    logger.warning(
        "Pixal3D is used at revision %s, but sizes and sha256 are registered for %s only: its files are not checked "
        "against any digest when they are fetched.",
        revision,
        pinned,
    )
    return f"{name}@{revision}"


def dinov3_weights(folder: Path) -> Path:
    """DINOv3's weights in its model's folder."""
    (file,) = registered(DINOV3).files
    return folder / file.name


def naf_weights(folder: Path) -> Path:
    """NAF's weights in its model's folder, as safetensors; the first call converts its checkpoint.

    Raises:
        WeightsError: if the checkpoint cannot be read or is not the registered one.
        ResourceError: if the converted checkpoint cannot be written.
    """
    (file,) = registered(NAF).files
    checkpoint = folder / file.name
    return as_safetensors(checkpoint, file.sha256 or digest_of(checkpoint))
