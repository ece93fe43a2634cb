"""The photo: upright, sRGB, 8 bits, at working size."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image, ImageCms

from scenegen.errors import InputError
from scenegen.untrusted.exif import focal_35mm
from scenegen.untrusted.picture import open_picture, parsing

MIN_SIDE = 16
ANIMATED_FORMATS = ("GIF", "PNG", "WEBP", "AVIF")
DNG_VERSION, NEW_SUBFILE_TYPE, REDUCED = 50706, 254, 1
"""Tags of TIFF, and the bit of the second that says that a page is a preview."""
FEWEST_BITS, MOST_PACKED_BITS = 10, 12
"""Of a sensor's values, where 16 bits hold them as they are."""
NO_COLOURS = ("I", "F", "LAB", "HSV")
"""Modes of pictures that hold measurements, or colours that Pillow does not convert."""
ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientation, and the operation that makes the stored picture upright."""
SIDEWAYS = tuple(ORIENTATIONS[number] for number in (5, 6, 7, 8))
"""Operations that swap width and height."""
PROFILE_SPACES = {("RGB", "RGB"), ("L", "GRAY"), ("CMYK", "CMYK")}
"""The ICC colour space for each of Pillow's modes."""
BEHIND_TRANSPARENT = (128, 128, 128)
"""Colour of pixels that are transparent. Files can hold anything there; mid-grey shows least if it bleeds into an edge."""
SOLID = 250
"""Alpha from which on a pixel shows the object alone; below, its colour is mixed with what was behind the object."""
HALF = 127
"""Alpha above this belongs to the object."""
FRINGE = 8
"""Width in pixels of the border of mixed colours, and how far solid colours are continued beyond it."""


@dataclass(frozen=True)
class UprightPhoto:
    """The decoded photo, and what is needed to fit masks and depth maps to it."""

    rgb: Image.Image
    """sRGB at working size, upright."""
    alpha: Image.Image | None
    """Grey at working size, upright, if the alpha channel is useful."""
    stored_size: tuple[int, int]
    """Width and height as stored, before EXIF's rotation."""
    transpose: Image.Transpose | None
    """The operation that makes the stored picture upright."""
    size: tuple[int, int]
    """Width and height upright, before downsampling."""
    focal_35mm: float | None
    warnings: tuple[str, ...]
    focal_source: str = ""
    """Where in the EXIF data the focal length is from."""


def read_photo(path: Path, what: str, *, max_side: int) -> UprightPhoto:
    """Decodes the photo at `path`.

    The picture is reduced before its colours are converted: the result is the same within rounding, several times faster.

    Args:
        path: a picture in one of `scenegen.untrusted.formats.PICTURES`, of which the first frame or page is used.
        what: its name in messages.
        max_side: longer side of the result in pixels; a smaller photo keeps its size.

    Raises:
        InputError: if it is not such a picture, is damaged, too large, or smaller than `MIN_SIDE` at working size.
    """
    warnings: list[str] = []
    with open_picture(path, what) as picture:
        if picture.format == "TIFF" and _is_raw(picture):
            raise InputError(
                f"{what} is a camera's raw file, of which only a preview could be read. Develop it to JPEG or TIFF."
            )
        stored_size = picture.size
        target = working_size(stored_size, max_side)
        if min(target) < MIN_SIDE:
            raise InputError(
                f"{what} is {stored_size[0]}x{stored_size[1]} pixels, {target[0]}x{target[1]} at working size; it must "
                f"have at least {MIN_SIDE}x{MIN_SIDE}. Give a larger picture, or crop it."
            )
        with parsing(what):
            if picture.format in ANIMATED_FORMATS and getattr(picture, "is_animated", False):
                warnings.append("the photo is animated; its first frame is used")
            elif picture.format == "TIFF" and (count := getattr(picture, "n_frames", 1)) > 1:
                warnings.append(f"the photo's file has {count} pages; the first one is used")
            # A JPEG can be decoded at a half, a quarter or an eighth; twice the target leaves the filter enough to work with.
            drafted = picture.draft(None, (2 * target[0], 2 * target[1]))
            picture.load()
        transpose, focal, focal_source = _read_exif(picture, stored_size, warnings)
        box = None if drafted is None else drafted[1]
        small = _plain(picture, what, warnings).resize(target, Image.Resampling.LANCZOS, box, reducing_gap=3.0)
        profile = picture.info.get("icc_profile")
    alpha = small.getchannel("A") if small.mode.endswith("A") else None
    rgb = _to_srgb(small.convert(small.mode.removesuffix("A")), profile, warnings)
    if alpha is not None:
        rgb = _without_fringe(rgb, alpha)
    if transpose is not None:
        rgb = rgb.transpose(transpose)
        alpha = None if alpha is None else alpha.transpose(transpose)
    size = (stored_size[1], stored_size[0]) if transpose in SIDEWAYS else stored_size
    return UprightPhoto(rgb, alpha, stored_size, transpose, size, focal, tuple(warnings), focal_source)


def working_size(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    """`size` scaled so that the longer side is at most `max_side`; never enlarged."""
    longer = max(size)
    if longer <= max_side:
        return size
    width, height = (max(1, round(side * max_side / longer)) for side in size)
    return width, height


def _read_exif(
    picture: Image.Image, size: tuple[int, int], warnings: list[str]
) -> tuple[Image.Transpose | None, float | None, str]:
    """The operation that makes the picture upright; its focal length, as `focal_35mm`, and where that is from."""
    try:
        with parsing("the EXIF data of the photo"):
            exif = picture.getexif()
            return ORIENTATIONS.get(exif.get(ExifTags.Base.Orientation, 1)), *focal_35mm(exif, size, warnings)
    except InputError as error:
        warnings.append(f"{error} It is ignored: the photo is taken as upright and its focal length as unknown.")
        return None, None, ""


def _is_raw(picture: Image.Image) -> bool:
    """Whether a TIFF is a camera's raw file, which begins with a small preview."""
    tags = picture.getexif()
    return DNG_VERSION in tags or bool(int(tags.get(NEW_SUBFILE_TYPE, 0)) & REDUCED)


def _plain(picture: Image.Image, what: str, warnings: list[str]) -> Image.Image:
    """The picture as L, LA, RGB, RGBA or CMYK, 8 bits per channel, with alpha only if some pixels are transparent."""
    if picture.mode.startswith("I;16"):
        import numpy as np

        values = np.asarray(picture)
        bits = max(FEWEST_BITS, int(values.max()).bit_length())
        if bits > MOST_PACKED_BITS:
            bits = 16
        else:
            warnings.append(f"the photo uses {bits} of its 16 bits, which were taken for its whole range")
        return Image.fromarray((values >> (bits - 8)).astype(np.uint8))
    if picture.mode in NO_COLOURS:
        raise InputError(
            f"{what} holds measurements or colours that are not a photo's (mode {picture.mode}). Save it as JPEG or PNG; give a "
            "depth map with --depth."
        )
    if picture.mode == "CMYK":
        return picture
    mode = "L" if picture.mode in ("1", "L", "LA") else "RGB"
    if not picture.has_transparency_data:
        return picture.convert(mode)
    with_alpha = picture.convert(mode + "A")
    extrema = with_alpha.getchannel("A").getextrema()
    if extrema == (0, 0):
        warnings.append("the photo is transparent everywhere; its alpha channel is ignored")
    return with_alpha.convert(mode) if extrema in ((0, 0), (255, 255)) else with_alpha


def _without_fringe(rgb: Image.Image, alpha: Image.Image) -> Image.Image:
    """`rgb` with the object's own colours where it is partly transparent, and no old background around it.

    Within `FRINGE` pixels of what is solid, other pixels take the nearest solid colour; beyond, transparent ones are grey.
    """
    import numpy as np
    from scipy import ndimage

    opacity, colours = np.asarray(alpha), np.array(rgb)
    colours[opacity <= HALF] = BEHIND_TRANSPARENT
    solid = opacity >= SOLID
    if solid.any():
        distance, nearest = ndimage.distance_transform_edt(~solid, return_indices=True)
        fringe = (distance > 0) & (distance <= FRINGE)
        colours[fringe] = colours[nearest[0][fringe], nearest[1][fringe]]
    return Image.fromarray(colours)


def _to_srgb(picture: Image.Image, profile: bytes | None, warnings: list[str]) -> Image.Image:
    """An L, RGB or CMYK picture as sRGB, through its ICC profile if it has one."""
    if profile is None:
        return picture.convert("RGB")
    try:
        with parsing("the colour profile of the photo"):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            space = source.profile.xcolor_space.strip()
            described = picture.convert("RGB") if (picture.mode, space) == ("L", "RGB") else picture
            if (described.mode, space) not in PROFILE_SPACES:
                raise InputError(f"the colour profile of the photo is for {space}, but the photo is {picture.mode}.")
            converted = ImageCms.profileToProfile(described, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except InputError as error:
        warnings.append(f"{error} It is ignored: the colours may be off.")
        return picture.convert("RGB")
    assert converted is not None, "only an in-place conversion returns nothing"
    return converted
