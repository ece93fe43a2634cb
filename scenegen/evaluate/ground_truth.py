"""Folders of pictures with ground truth: their layouts, and their content as arrays.

`scene` (rendered): `image.png`; `masks.png`, ids, 0 for none; `depth.npy`, z-depth in metres, 0 where unknown; `camera.json`,
width, height, fx, fy, cx, cy and the 4x4 `camera_to_world`, pixel centres at +0.5; `scene.json`, objects with id, category, mesh
(GLB in the world frame: Y up, metres), mask and support; `masks/NN_amodal.png`, whole silhouettes. Further photos of it are in
`views/NAME`, each with its own `image.png`, `masks.png`, `depth.npy` and `camera.json`, in the same world and with the same ids.

`photo` (real): `image.jpg`; if known, `depth.png`, 16 bits, 1/5000 m, 0 where unknown, `masks.png` as above, and `camera.json`
with pixel centres at integers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import trimesh
from jaxtyping import Bool, Float, Float32, Int, Integer, Shaped
from pydantic import BaseModel, ConfigDict, ValidationError

from scenegen.camera import transform
from scenegen.errors import InputError, UsageError, one_line
from scenegen.evaluate.record import TrueObject, TrueView, Truth
from scenegen.evaluate.sampling import Triangles
from scenegen.records import Artifact, Intrinsics, Matrix4
from scenegen.store.png import read_png
from scenegen.store.store import Store
from scenegen.untrusted.documents import read_json

IMAGES = ("image.png", "image.jpg")
PHOTO_DEPTH_UNIT_M = 1 / 5000
FLOOR = 0


class _Lenient(BaseModel):
    """Part of a file; unknown names are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


T = TypeVar("T", bound=_Lenient)
L = TypeVar("L")


class _Camera(_Lenient):
    width: int
    height: int
    fx: float | None = None
    fy: float | None = None
    cx: float | None = None
    cy: float | None = None
    camera_to_world: Matrix4 | None = None

    def intrinsics(self, first_centre: float) -> Intrinsics | None:
        """The camera with pixel centres at +0.5, from a file whose first centre is `first_centre`; None if it has no camera."""
        if self.fx is None or self.fy is None or self.cx is None or self.cy is None:
            return None
        shift = 0.5 - first_centre
        return Intrinsics(
            width=self.width, height=self.height, fx=self.fx, fy=self.fy, cx=self.cx + shift, cy=self.cy + shift
        )


class _Object(_Lenient):
    id: int
    category: str = ""
    mesh: str
    mask: str | None = None
    support: str | None = None


class _Scene(_Lenient):
    objects: tuple[_Object, ...]


@dataclass(frozen=True, eq=False)
class TrueScene:
    """Everything that is known of a rendered picture."""

    objects: tuple[TrueObject, ...]
    meshes: Mapping[int, Triangles]
    """Camera frame, by object id."""
    camera: Intrinsics
    world_from_camera: Float[np.ndarray, "4 4"]
    """World: gravity-aligned, Y up, metres."""
    ids: Integer[np.ndarray, "h w"]
    depth: Float32[np.ndarray, "h w"]
    amodal: Mapping[int, Bool[np.ndarray, "h w"]]


def find_folders(root: Path) -> list[Path]:
    """`root` itself if it holds a picture of one of the layouts, else the folders in it that do, sorted.

    Raises:
        UsageError: if there is none.
    """
    candidates = [root, *sorted(path for path in root.iterdir() if path.is_dir())] if root.is_dir() else []
    found = [path for path in candidates if _image(path) is not None]
    if not found:
        raise UsageError(f"`scenes` is {root}; it must hold folders with {' or '.join(IMAGES)} and ground truth.")
    return found[:1] if found[0] == root else found


def read_truth(folder: Path, store: Store) -> Truth:
    """The ground truth in a folder of either layout, whose files are copied into the store.

    Raises:
        InputError: if a file is missing or has other content.
    """
    image = _image(folder)
    if image is None:
        raise InputError(f"{folder} has neither {' nor '.join(IMAGES)}; docs/evaluation.md has the layouts.")
    if not (folder / "scene.json").is_file():
        return _read_photo(folder, image, store)
    camera = _parse(folder / "camera.json", _Camera)
    intrinsics = camera.intrinsics(first_centre=0.5)
    if intrinsics is None or camera.camera_to_world is None:
        raise InputError(f"{folder / 'camera.json'} must hold fx, fy, cx, cy and camera_to_world.")
    return Truth(
        name=folder.name,
        layout="scene",
        image=store.ingest(image),
        intrinsics=intrinsics,
        world_from_camera=camera.camera_to_world,
        depth=store.ingest(folder / "depth.npy"),
        depth_unit_m=1.0,
        masks=store.ingest(folder / "masks.png"),
        objects=tuple(_true_object(folder, item, store) for item in _parse(folder / "scene.json", _Scene).objects),
        camera=store.ingest(folder / "camera.json"),
        views=tuple(_true_view(path, store) for path in sorted((folder / "views").glob("*/")) if _image(path)),
    )


def load_scene(truth: Truth, read: Callable[[Artifact], Path]) -> TrueScene:
    """The arrays of a `scene`.

    Raises:
        InputError: if `truth` is of a photo, or a mesh cannot be read.
    """
    depth, ids = load_depth(truth, read), load_masks(truth, read)
    if truth.world_from_camera is None or truth.intrinsics is None or depth is None or ids is None:
        raise InputError(
            f"`truth` {truth.name} has the layout `{truth.layout}`, which does not describe objects; give one of layout `scene`."
        )
    world_from_camera = np.array(truth.world_from_camera)
    camera_from_world = np.linalg.inv(world_from_camera)
    meshes = {}
    for item in truth.objects:
        vertices, faces = _loaded(truth, f"mesh of object {item.id}", read(item.mesh), load_glb)
        meshes[item.id] = Triangles(transform(camera_from_world, vertices), faces)
    amodal = {
        item.id: _loaded(truth, f"whole silhouette of object {item.id}", read(item.amodal), _load_png) > 0
        for item in truth.objects
        if item.amodal is not None
    }
    return TrueScene(truth.objects, meshes, truth.intrinsics, world_from_camera, ids, depth, amodal)


def load_masks(truth: Truth, read: Callable[[Artifact], Path]) -> Integer[np.ndarray, "h w"] | None:
    """True ids, 0 for none; None if they are not known.

    Raises:
        InputError: if they cannot be read.
    """
    return None if truth.masks is None else _loaded(truth, "masks", read(truth.masks), _load_png)


def load_depth(truth: Truth, read: Callable[[Artifact], Path]) -> Float32[np.ndarray, "h w"] | None:
    """True z-depth in metres, 0 where unknown; None if there is no map.

    Raises:
        InputError: if it cannot be read.
    """
    if truth.depth is None:
        return None
    path = read(truth.depth)
    values = _loaded(truth, "depth", path, _load_npy if path.suffix == ".npy" else _load_png)
    known = np.isfinite(values) & (values > 0)
    return np.where(known, values * truth.depth_unit_m, 0).astype(np.float32)


def load_glb(path: Path) -> tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "f 3"]]:
    """Vertices and faces of all meshes of a GLB, in its root frame.

    Raises:
        ValueError: if it has no triangle; trimesh raises other errors if it is not a GLB.
    """
    mesh: Any = trimesh.load(path, force="mesh", process=False)
    if not len(getattr(mesh, "faces", ())):
        raise ValueError("it has no triangle")
    return np.array(mesh.vertices, dtype=np.float64), np.array(mesh.faces, dtype=np.int64)


def _loaded(truth: Truth, what: str, path: Path, load: Callable[[Path], L]) -> L:
    """The content of a file. `what` names it in messages, since its name in the store means nothing to users.

    Raises:
        InputError: if it cannot be loaded.
    """
    try:
        return load(path)
    except Exception as error:  # a damaged file can make a library raise anything
        reason = one_line(str(error).strip().partition("\n")[0])
        raise InputError(f"{truth.name}: the true {what} cannot be read: {reason}") from error


def _load_png(path: Path) -> Shaped[np.ndarray, "h w"]:
    return _map(read_png(path))


def _load_npy(path: Path) -> Shaped[np.ndarray, "h w"]:
    return _map(np.asarray(np.load(path, allow_pickle=False)))


def _map(values: np.ndarray) -> np.ndarray:
    if values.ndim != 2:
        raise ValueError(f"its shape is {values.shape}; it must have height and width only")
    return values


def _image(folder: Path) -> Path | None:
    return next((folder / name for name in IMAGES if (folder / name).is_file()), None)


def _read_photo(folder: Path, image: Path, store: Store) -> Truth:
    depth, masks, camera = (folder / name for name in ("depth.png", "masks.png", "camera.json"))
    return Truth(
        name=folder.name,
        layout="photo",
        image=store.ingest(image),
        intrinsics=_parse(camera, _Camera).intrinsics(first_centre=0.0) if camera.is_file() else None,
        world_from_camera=None,
        depth=store.ingest(depth) if depth.is_file() else None,
        depth_unit_m=PHOTO_DEPTH_UNIT_M,
        masks=store.ingest(masks) if masks.is_file() else None,
    )


def _true_view(folder: Path, store: Store) -> TrueView:
    """A further photo of a rendered scene.

    Raises:
        InputError: if a file is missing, or its camera has no pose.
    """
    camera, image = _parse(folder / "camera.json", _Camera), _image(folder)
    assert image is not None
    if camera.intrinsics(first_centre=0.5) is None or camera.camera_to_world is None:
        raise InputError(f"{folder / 'camera.json'} must hold fx, fy, cx, cy and camera_to_world.")
    return TrueView(
        name=folder.name,
        image=store.ingest(image),
        camera=store.ingest(folder / "camera.json"),
        depth=store.ingest(folder / "depth.npy"),
        masks=store.ingest(folder / "masks.png"),
    )


def _true_object(folder: Path, item: _Object, store: Store) -> TrueObject:
    mesh = folder / item.mesh
    # The whole silhouette lies beside the visible mask.
    amodal = None if item.mask is None else (folder / item.mask).with_stem(f"{Path(item.mask).stem}_amodal")
    for path in (mesh, amodal):
        if path is not None and not path.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{folder / 'scene.json'} names {path}, which lies outside the folder; move it inside.")
    parent = (item.support or "").removeprefix("object ")
    return TrueObject(
        id=item.id,
        category=item.category,
        mesh=store.ingest(mesh),
        amodal=store.ingest(amodal) if amodal is not None and amodal.is_file() else None,
        support=int(parent) if parent.isdecimal() else FLOOR,
    )


def _parse(path: Path, model: type[T]) -> T:
    try:
        return model.model_validate(read_json(path))
    except (OSError, ValueError, ValidationError) as error:
        raise InputError(f"{path} cannot be read: {one_line(str(error))}") from error
