"""Reads the photo, and masks and depth if the user gave them, into records at working size."""

from __future__ import annotations

from scenegen.config import ReadConfig
from scenegen.image import ALPHA, DEPTH, IMAGE, MASKS, Request, decode
from scenegen.records import Photo, Source
from stages.stage import Stage, Work


def read(source: Source, *, config: ReadConfig, work: Work) -> Photo:
    """Decodes what `source` names, in a child process.

    Raises:
        InputError: if a file cannot be used; the message says which one, and why.
    """
    decoded = decode(
        Request(
            name=source.name,
            photo=str(work.read(source.photo)),
            masks=tuple(str(work.read(mask)) for mask in source.masks),
            depth=None if source.depth is None else str(work.read(source.depth)),
            folder=str(work.folder),
            max_side=config.max_side,
            max_pixels=config.max_pixels,
            max_memory_mb=config.max_memory_mb,
            timeout_s=config.timeout_s,
            depth_unit_m=config.depth_unit_m,
        )
    )
    return Photo(
        name=source.name,
        image=work.artifact(IMAGE),
        alpha=work.artifact(ALPHA) if decoded.alpha else None,
        masks=work.artifact(MASKS) if source.masks else None,
        mask_labels=source.mask_labels,
        depth=None if source.depth is None else work.artifact(DEPTH),
        width=decoded.width,
        height=decoded.height,
        original_width=decoded.original_width,
        original_height=decoded.original_height,
        focal_35mm=decoded.focal_35mm,
        warnings=decoded.warnings,
    )


READ = Stage(name="read", record=Photo, run=read)
