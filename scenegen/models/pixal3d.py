"""The three models Pixal3D runs on, located together."""

from __future__ import annotations

from pathlib import Path

from scenegen.models.convert import as_safetensors
from scenegen.models.local import digest_of, locate_all
from scenegen.models.registry import registered
from scenegen.runtime import Runtime

PARTS = ("pixal3d", "dinov3-vitl16", "naf")


def locate_pixal3d(runtime: Runtime) -> tuple[Path, Path, Path]:
    """Pixal3D's fetched weights; the first call converts NAF's checkpoint.

    Returns:
        The folder with `pipeline.json`, DINOv3's safetensors file, and NAF's.

    Raises:
        WeightsError: where a model is absent or damaged.
        ResourceError: where the converted checkpoint cannot be written.
    """
    folder, dino_folder, naf_folder = locate_all(PARTS, runtime)
    (dino,) = registered("dinov3-vitl16").files
    (naf,) = registered("naf").files
    checkpoint = naf_folder / naf.name
    return folder, dino_folder / dino.name, as_safetensors(checkpoint, naf.sha256 or digest_of(checkpoint))
