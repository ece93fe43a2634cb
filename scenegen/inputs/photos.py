"""The photos of a command, each with the files that belong to it and the name of its output folder."""

from __future__ import annotations

import filecmp
import glob
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from scenegen.compute.runtime import Runtime
from scenegen.config import Config
from scenegen.errors import InputError, UsageError
from scenegen.ids import UNKNOWN
from scenegen.inputs.listing import log_skipped, pictures
from scenegen.untrusted.formats import (
    ALPHA_SUFFIXES,
    CAMERA_SUFFIXES,
    COLMAP_FOLDERS,
    COLMAP_IMAGES,
    DEPTH_SUFFIXES,
    MASK_SUFFIXES,
    OTHER_MESH_SUFFIXES,
    PHOTO_NAMES,
    PICTURE_SUFFIXES,
)
from scenegen.untrusted.names import natural
from scenegen.weights_registry.needed import require_models

if TYPE_CHECKING:
    from scenegen.inputs.options import InputOptions

logger = logging.getLogger(__name__)

MAX_NAME = 120
"""Characters of a folder name."""
MAX_NAME_BYTES = 200
"""File systems stop at 255 bytes of UTF-8."""

TABLES = ("batch.csv", "batch.html", "batch.json")
"""Files that a batch writes next to the folders of its photos."""

_MESH_NAME = re.compile(r"0*(\d{1,5})(?:[ _-].*)?\.glb", re.IGNORECASE)
_LEADING, _TRAILING = re.compile(r"^[.\s]+"), re.compile(r"[.\s]+$")
_FORBIDDEN = frozenset('/\\<>:"|?*')
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])\s*(\.|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Inputs:
    """The files of one scene."""

    name: str
    """Of the photo; of the output folder too, unless `scene` is."""
    photo: Path
    masks: tuple[Path, ...] = ()
    """One file for all objects, or one picture per object, in the order that people count in."""
    depth: Path | None = None
    camera: tuple[Path, ...] = ()
    """The file of the camera, and with COLMAP's cameras that of its images."""
    meshes: tuple[Path, ...] = ()
    """One GLB for each of some objects, named after its id (`mesh_number`)."""
    others: tuple[Inputs, ...] = ()
    """Further photos of the same scene, each with its files."""
    scene: str = ""
    """Name of the output folder, if there are several photos."""

    @property
    def folder(self) -> str:
        """Name of the output folder."""
        return self.scene or self.name


def needs_segmenter(inputs: Inputs, config: Config) -> bool:
    """Whether objects must be found in the photo. A cut-out brings its masks in its alpha channel, which counts unless
    the settings say what to make."""
    return not inputs.masks and (config.segment.says_what or inputs.photo.suffix.lower() not in ALPHA_SUFFIXES)


def require_models_for(scenes: Sequence[Inputs], config: Config, runtime: Runtime, generates: bool) -> None:
    """Fails if weights or packages for scenes of these files are missing.

    Args:
        scenes: the files of each.
        config: the configuration.
        runtime: where weights are kept.
        generates: whether objects are made on this machine.

    Raises:
        WeightsError: as from `scenegen.weights_registry.needed.require_models`.
    """
    photos = [photo for inputs in scenes for photo in (inputs, *inputs.others)]
    require_models(
        config,
        runtime,
        segments=any(needs_segmenter(photo, config) for photo in photos),
        measures=any(photo.depth is None for photo in photos),
        generates=generates,
        several=any(inputs.others for inputs in scenes),
        finds_cameras=any(finds_cameras(inputs) for inputs in scenes),
    )


def finds_cameras(inputs: Inputs) -> bool:
    """Whether it must be found where the cameras of several photos stand, as far as can be told without reading a file."""
    photos = (inputs, *inputs.others)
    return len(photos) > 1 and sum(bool(photo.camera) for photo in photos) < 2


def is_single(words: Sequence[str]) -> bool:
    """Whether the command names a single file; only then are masks and depth given directly."""
    return len(words) == 1 and not Path(words[0]).is_dir() and (Path(words[0]).exists() or not glob.has_magic(words[0]))


def safe_name(text: str) -> str:
    """`text` as a folder name that stays inside its parent on every common file system.

    NFC, at most `MAX_NAME` characters, no separator, control character, leading dot or Windows-reserved name.
    """
    text = unicodedata.normalize("NFC", text)
    text = "".join("_" if char in _FORBIDDEN or unicodedata.category(char)[0] == "C" else char for char in text)
    text = _cut(_LEADING.sub("", text), MAX_NAME)
    if _RESERVED.match(text):
        text = _cut(f"_{text}", MAX_NAME)
    return text or "photo"


def is_safe_name(text: str) -> bool:
    """Whether `text` is a name as `safe_name` and `unique_names` make them."""
    plain, dash, count = text.rpartition("-")
    return safe_name(text) == text or (dash == "-" and count.isdecimal() and safe_name(plain) == plain)


def folder_names(photos: Sequence[Path], out: Path) -> list[str]:
    """A name below `out` for each photo, as from `unique_names`. The name of a file in `out` counts as taken."""
    return unique_names(photos, lambda name: (out / name).exists() and not (out / name).is_dir())


def unique_names(photos: Sequence[PurePath], taken: Callable[[str], bool] = lambda name: False) -> list[str]:
    """A safe folder name for each photo, after its stem, no two of which any file system takes for the same (case, Unicode form).

    The first photo of a name gets it as it is, the next one `name-2`, and so on. The names of a batch's tables are not used.

    Args:
        photos: their paths, here or elsewhere.
        taken: whether a name cannot be used.
    """
    names: list[str] = []
    used = {_folded(name) for name in TABLES}
    for photo in photos:
        plain = name = safe_name(photo.stem)
        count = 1
        while _folded(name) in used or taken(name):
            count += 1
            name = f"{_cut(plain, MAX_NAME - len(f'-{count}'))}-{count}"
        if count > 1:
            logger.warning("%s: the name %s is taken, so its folder is %s", photo, plain, name)
        used.add(_folded(name))
        names.append(name)
    return names


def companions(photo: Path, name: str, options: InputOptions, single: bool) -> Inputs:
    """`photo` with the files that belong to it.

    Args:
        photo: the photo.
        name: the name of its output folder.
        options: where the files are. For several photos each is a folder with one entry per photo, named after its stem; the
            camera may also be one file for all.
        single: whether the command names one photo only.

    Raises:
        InputError: if the photo does not exist, or not exactly one entry belongs to it.
    """
    if not photo.exists():
        raise InputError(f"{photo} does not exist.")
    masks, depth, camera = options.masks, options.depth, options.camera
    chosen: tuple[Path, ...] = ()
    if masks is not None:
        # COCO's file may hold the masks of all photos.
        shared = single or (masks.suffix.lower() == ".json" and masks.is_file())
        entry = _existing(masks if shared else _entry(masks, photo, MASK_SUFFIXES, "masks"), "masks")
        chosen = _mask_files(entry, photo) if entry.is_dir() else (entry,)
    if depth is not None and (not single or depth.is_dir()):
        depth = _entry(depth, photo, DEPTH_SUFFIXES, "depth")
    if depth is not None:
        _existing(depth, "depth")
    return Inputs(
        name,
        photo,
        chosen,
        depth,
        camera=() if camera is None else _camera_files(_existing(camera, "camera"), photo),
        meshes=() if options.meshes is None else _mesh_files(options.meshes, photo, single),
    )


def holds_scenes(words: Sequence[str]) -> bool:
    """Whether the words name one folder of folders of photos, without pictures of its own: each is a scene."""
    if len(words) != 1 or not Path(words[0]).is_dir():
        return False
    folder = Path(words[0])
    return not pictures(folder)[0] and any(path.is_dir() and pictures(path)[0] for path in folder.iterdir())


def entries_of(options: InputOptions, folder: Path) -> InputOptions:
    """The files of one of several scenes: the entries named after its folder.

    Raises:
        InputError: if there is not exactly one for it.
    """

    def entry(place: Path | None, suffixes: frozenset[str], name: str) -> Path | None:
        return None if place is None else _entry(place, folder, suffixes, name)

    return replace(
        options,
        masks=entry(options.masks, MASK_SUFFIXES, "masks"),
        depth=entry(options.depth, DEPTH_SUFFIXES, "depth"),
        camera=entry(options.camera, CAMERA_SUFFIXES, "camera"),
    )


def views_of(photos: Sequence[Path], name: str, options: InputOptions) -> Inputs:
    """Several photos of one scene, each with the files that belong to it.

    Args:
        photos: the first one is the main view.
        name: of the output folder; if it is empty, the stem of the first photo.
        options: where the files are: folders with one entry per photo; the camera may also be one file for all.

    Raises:
        UsageError: if there is one photo only, or meshes are given.
        InputError: as `companions`.
    """
    if len(photos) < 2:
        found = photos[0] if photos else "no photo"
        raise UsageError(f"`views` needs at least two photos of a scene, and got {found}; for one: scenegen PHOTO.")
    if options.meshes is not None:
        raise UsageError(
            "`meshes` are placed by one photo; drop --meshes, or give one photo: scenegen PHOTO --meshes FOLDER."
        )
    main, *others = (
        companions(photo, stem, options, single=False) for photo, stem in zip(photos, unique_names(photos), strict=True)
    )
    return replace(main, others=tuple(others), scene=safe_name(name or photos[0].stem))


def _existing(path: Path, argument: str) -> Path:
    if not path.exists():
        raise InputError(f"`{argument}` {path} does not exist.")
    return path


def mesh_number(path: PurePath) -> int:
    """The id of the object that a mesh is named after: `3.glb`, `03_mug.glb`.

    Raises:
        InputError: if the name does not begin with an id.
    """
    found = _MESH_NAME.fullmatch(path.name)
    if found is None or not 1 <= int(found[1]) < UNKNOWN:
        raise InputError(
            f"`meshes` has {path.name}; name each mesh after the id of its object, such as 3.glb or 03_mug.glb."
        )
    return int(found[1])


def _mesh_files(folder: Path, photo: Path, single: bool) -> tuple[Path, ...]:
    """The meshes of a photo's objects, in the order of their ids."""
    folder = folder if single else folder / photo.stem
    if not folder.is_dir():
        raise InputError(f"`meshes` {folder} is not a folder; it must hold N.glb for object N.")
    others = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in OTHER_MESH_SUFFIXES)
    if others:
        raise InputError(
            f"`meshes` {folder} holds {', '.join(others[:4])}; only .glb is read. Export each mesh as GLB, with its textures."
        )
    files = [path for path in folder.iterdir() if path.suffix.lower() == ".glb"]
    numbers = {path: mesh_number(path) for path in files}
    if not files:
        raise InputError(f"`meshes` {folder} holds no .glb file; looked for N.glb for object N.")
    twice = [number for number, count in Counter(numbers.values()).items() if count > 1]
    if twice:
        raise InputError(f"`meshes` {folder} has several meshes of object {twice[0]}; leave one.")
    return tuple(sorted(files, key=numbers.__getitem__))


def _camera_files(path: Path, photo: Path) -> tuple[Path, ...]:
    """A camera's file; with COLMAP's cameras also that of the images beside it."""
    if path.is_dir():
        places = (path, *(path / inner for inner in COLMAP_FOLDERS))
        listed = [place / name for place in places for name in COLMAP_IMAGES if (place / name).is_file()]
        path = listed[0] if listed else _entry(path, photo, CAMERA_SUFFIXES, "camera")
    images = path.with_name(COLMAP_IMAGES.get(path.name, path.name))
    return (path, images) if images != path and images.is_file() else (path,)


def _mask_files(folder: Path, photo: Path) -> tuple[Path, ...]:
    """The pictures of a folder, one per object, without the photo that may lie among them; or its one file of all masks."""
    found, skipped = pictures(folder)
    unreadable = [f"{item.place} {item.reason}" for item in skipped if item.failed]
    if unreadable:
        raise InputError(f"`masks` {unreadable[0]}")
    masks = [path for path in found if not _is_photo(path, photo)]
    for path in found:
        if path not in masks:
            logger.warning("%s is the photo, not a mask", path)
    whole = [Path(item.place) for item in skipped if Path(item.place).suffix.lower() in MASK_SUFFIXES]
    if not masks and len(whole) == 1:
        return (whole[0],)
    log_skipped(skipped)
    if not masks:
        raise InputError(
            f"`masks` {folder} holds no picture; looked for files ending in {', '.join(sorted(PICTURE_SUFFIXES))}, or one file "
            f"ending in {', '.join(sorted(MASK_SUFFIXES - PICTURE_SUFFIXES))}."
        )
    return tuple(sorted(masks, key=lambda path: natural(path.name)))


def _is_photo(path: Path, photo: Path) -> bool:
    """Whether a file among masks is the photo itself: by its name, or the same content."""
    if path.stem.casefold() in PHOTO_NAMES:
        return True
    return 0 < path.stat().st_size == photo.stat().st_size and filecmp.cmp(path, photo, shallow=False)


def _entry(folder: Path, photo: Path, suffixes: frozenset[str], argument: str) -> Path:
    """The one entry of `folder` named after the stem of `photo`: a sub-folder, or a file with one of `suffixes`."""
    if not folder.is_dir():
        raise InputError(
            f"`{argument}` is {folder}; for several photos it must be a folder with one entry per photo, "
            f"such as {photo.stem}{min(suffixes)}."
        )
    stem = unicodedata.normalize("NFC", photo.stem)
    found = [
        entry
        for entry in sorted(folder.iterdir())
        if (entry.is_dir() and unicodedata.normalize("NFC", entry.name) == stem)
        or (entry.suffix.lower() in suffixes and unicodedata.normalize("NFC", entry.stem) == stem)
    ]
    if len(found) != 1:
        names = ", ".join(entry.name for entry in found) or "none"
        raise InputError(
            f"`{argument}` {folder} must have one entry named {photo.stem} for {photo.name}; it has {names}."
        )
    return found[0]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def _cut(text: str, characters: int) -> str:
    """`text` shortened to both limits, without trailing dots and spaces of any kind, which Windows drops."""
    text = text[:characters]
    while len(text.encode()) > MAX_NAME_BYTES:
        text = text[:-1]
    return _TRAILING.sub("", text)
