"""Complete: partly hidden objects, each as if nothing hid it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from scenegen.camera import crop_camera, crop_from_photo, padded, warp_to_crop
from scenegen.completion import PartView, WholeView
from scenegen.completion.hidden import HiddenPart, hidden_part
from scenegen.config import CompleteSettings
from scenegen.errors import InputError, LimitError
from scenegen.faults import described, ends_photo
from scenegen.messages.remarks import of_object
from scenegen.perception import UNNAMED
from scenegen.records import Completion, Completions, CropCamera, Depth, Instances, Intrinsics, Photo
from scenegen.registry import COMPLETERS
from scenegen.store.png import read_png, write_png
from stages.stage import Stage, Work

logger = logging.getLogger(__name__)

MARGIN = 1.6
"""Side of the crop over the extent of what is seen: hidden parts need room."""
PAD_SHARE = 0.25
"""Of the photo's longer side: how far objects that its border cuts may go on beyond it."""
LEAST_GROWTH = 1.01
"""A completion that adds less than this is none."""


@dataclass(frozen=True, eq=False)
class Completed:
    """A whole object in the photo's camera, whose picture has `pad` pixels more on each side."""

    picture: UInt8[np.ndarray, "h w 3"]
    mask: Bool[np.ndarray, "h w"]


def complete(photo: Photo, instances: Instances, depth: Depth, *, config: CompleteSettings, work: Work) -> Completions:
    """The partly hidden objects (`scenegen.completion.hidden`), completed one after another; whole ones are left alone.

    What is seen of an object stays as it is: the completer decides only where it may go on, behind what is nearer and beyond
    the photo's border. An object that cannot be completed stays as it is seen, and a warning says so.

    Raises:
        WeightsError: if the completer's weights are missing or damaged.
        ResourceError: if the device is absent or its memory full.
    """
    image, ids = read_png(work.read(photo.image)), read_png(work.read(instances.masks))
    z = np.load(work.read(depth.depth))
    completer = COMPLETERS.of(config.complete)
    items, warnings = [], []
    backend, licence = completer.name, "none: no weights"
    for item in instances.items:
        part = hidden_part(ids, z, item.id)
        if part is None:
            continue
        pad = round(PAD_SHARE * max(ids.shape)) if any(part.sides) else 0
        camera = padded(depth.intrinsics, pad)
        try:
            label = "object" if item.label == UNNAMED else item.label
            view, crop = part_view(image, ids == item.id, part, camera, pad, label, completer.largest_crop)
            whole = completer.run(view, config.seed, config.complete, work.runtime)
        except Exception as error:
            if ends_photo(error) or isinstance(error, LimitError):  # what one needs, all need
                raise
            warnings.append(of_object(item.id, f"it is partly hidden and could not be completed: {described(error)}"))
            continue
        backend, licence = completer.signed(whole.backend), whole.licence
        done = joined(whole, view, crop, image, ids == item.id, camera, pad)
        growth = np.count_nonzero(done.mask) / item.area
        if growth < LEAST_GROWTH:
            continue
        write_png(work.write(f"{item.id}.png"), done.picture)
        write_png(work.write(f"{item.id}_mask.png"), done.mask.astype(np.uint8) * 255)
        items.append(
            Completion(
                id=item.id,
                pad=pad,
                picture=work.artifact(f"{item.id}.png"),
                mask=work.artifact(f"{item.id}_mask.png"),
                hidden_outline=round(part.share, 4),
                growth=round(float(growth), 4),
            )
        )
    logger.debug("completed %d of %d objects", len(items), len(instances.items))
    return Completions(items=tuple(items), backend=backend, licence=licence, warnings=tuple(warnings))


def part_view(
    image: UInt8[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "h w"],
    part: HiddenPart,
    camera: Intrinsics,
    pad: int,
    label: str,
    largest: int,
) -> tuple[PartView, CropCamera]:
    """The object in a crop with room for what is hidden, and the crop's camera.

    Raises:
        InputError: if it needs a crop that is too wide.
    """
    seen = np.pad(mask, pad)
    extent = MARGIN * max(np.ptp(axis) + 1 for axis in np.nonzero(mask))
    size = int(np.clip(2 * round(extent / 2), 96, largest))
    crop = crop_camera(camera, seen, size, MARGIN)
    may_hide = np.pad(part.behind, pad)
    left, top, right, bottom = part.sides
    height, width = seen.shape
    for cut, outside in (
        (left, np.s_[:, :pad]),
        (top, np.s_[:pad]),
        (right, np.s_[:, width - pad :]),
        (bottom, np.s_[height - pad :]),
    ):
        if cut:
            may_hide[outside] = True
    picture = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    shares = [warp_to_crop(part.astype(np.float32), camera, crop) > 0.5 for part in (seen, may_hide)]
    if not shares[0].any():
        raise InputError("too little of it is visible")
    return PartView(warp_to_crop(picture, camera, crop), shares[0], shares[1] & ~shares[0], label), crop


def joined(
    whole: WholeView,
    view: PartView,
    crop: CropCamera,
    image: UInt8[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "h w"],
    camera: Intrinsics,
    pad: int,
) -> Completed:
    """What is seen, and the completer's picture and mask where the object may hide, back in the photo's camera."""
    seen = np.pad(mask, pad)
    size = camera.width, camera.height
    back = crop_from_photo(camera, crop)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    # OpenCV has pixel centres at whole numbers.
    shift = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    matrix = np.linalg.inv(shift) @ back @ shift
    added = cv2.warpPerspective((whole.mask & view.may_hide).astype(np.float32), matrix, size, flags=flags) > 0.5
    drawn = cv2.warpPerspective(whole.image, matrix, size, flags=flags)
    picture = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    picture = np.where((added & ~seen)[..., None], drawn, picture)
    return Completed(picture, seen | added)


COMPLETE = Stage(
    name="complete",
    record=Completions,
    run=complete,
    backends=lambda config: (COMPLETERS.chosen(config.complete),),
)
