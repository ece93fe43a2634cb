"""scenegen from Python: `make` a scene of a photo, or `make_views` one of several photos of it; look at it, `save` it; `load`
one that was saved.

    import scenegen

    scene = scenegen.make("photo.jpg")
    scene.objects[0].mesh.show()
    scene.save("out")

A scene that is not saved lies in a temporary folder, which is removed with it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import networkx as nx
import numpy as np
from jaxtyping import Float, Float64

from scenegen.camera import camera_matrix, project, transform
from scenegen.config import Config
from scenegen.errors import InputError, one_line
from scenegen.export.formats import as_trimesh
from scenegen.export.glb import read_glb
from scenegen.export.manifest import Manifest, publish, read_manifest
from scenegen.export.parts import Part, PartScene
from scenegen.inputs.options import (
    ConfigOptions,
    InputOptions,
    PromptOptions,
    RunOptions,
    SceneRunOptions,
    check_object,
    scene_config,
)
from scenegen.inputs.photos import Inputs, companions, folder_names, require_models_for, views_of
from scenegen.messages.progress import showing
from scenegen.records import Artifact, Failure, Intrinsics, PlacedObject, Scores, artifacts
from scenegen.scene.graph import from_json
from scenegen.store.destination import check_folder
from scenegen.store.store import STORE, Store, disk_errors
from scenegen.weights_registry.needed import require_models
from stages.export import EXPORT
from stages.report import REPORT
from stages.run import check_source, open_store, photo_to_scene
from stages.run import regenerate as make_anew
from stages.workplace import workplace

if TYPE_CHECKING:
    import trimesh

StrPath = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class PhotoCamera:
    """The photo's camera: a pinhole camera in the world (metres, Y up, the floor at height 0)."""

    intrinsics: Intrinsics
    """Pixels; the centre of the top-left pixel is (0.5, 0.5)."""
    world_from_camera: Float64[np.ndarray, "4 4"]
    """Rigid. Camera frame: x right, y down, z forward."""

    @property
    def matrix(self) -> Float64[np.ndarray, "3 3"]:
        """The intrinsic matrix K, in pixels."""
        return camera_matrix(self.intrinsics)

    def project(self, points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 2"]:
        """Pixels (u, v) at which world points are seen.

        Args:
            points: world frame, metres, before the camera.

        Examples:
            >>> camera = PhotoCamera(Intrinsics(width=64, height=48, fx=50, fy=50, cx=32, cy=24), np.eye(4))
            >>> camera.project(np.array([0.0, 0.0, 2.0])).tolist()
            [32.0, 24.0]
        """
        return project(self.intrinsics, transform(np.linalg.inv(self.world_from_camera), points))


@dataclass(frozen=True, eq=False)
class SceneObject:
    """One object of a scene."""

    placed: PlacedObject
    """All that is known of it, as in the manifest."""
    part: Part
    """Its mesh in its own frame, and its place."""

    @property
    def id(self) -> int:
        """Number of the object in the masks; `PhotoScene.regenerate` takes it."""
        return self.placed.id

    @property
    def name(self) -> str:
        """Unique in the scene: its node in `scene.graph`, in the GLB and in the USD stage."""
        return self.placed.name

    @property
    def label(self) -> str:
        """What it is; empty if nothing named it."""
        return self.placed.label

    @property
    def scores(self) -> Scores:
        """How it agrees with the photo."""
        return self.placed.scores

    @cached_property
    def mesh(self) -> trimesh.Trimesh:
        """The textured mesh in the world frame (metres, Y up). Changing it changes no file."""
        return as_trimesh(self.part)


class PhotoScene:
    """The scene of one photo, as `make`, `load` and `regenerate` return it. Files are read when they are first needed.

    Args:
        folder: a published folder, with the store that it was made in beside it.
        temporary: a folder that is removed with this object, at the latest when Python ends.
    """

    def __init__(self, folder: Path, temporary: Path | None = None) -> None:
        self.folder = folder
        """The scene's files, as the command line writes them; a temporary folder unless the scene was loaded."""
        self.manifest: Manifest = read_manifest(folder)
        """How it was made: inputs, settings, seeds, versions, licences, warnings, timings."""
        if temporary is not None:
            weakref.finalize(self, shutil.rmtree, temporary, ignore_errors=True)

    @property
    def name(self) -> str:
        """The name of its folder, after the photo."""
        return self.manifest.name

    @cached_property
    def objects(self) -> tuple[SceneObject, ...]:
        """Every object, in the order of the manifest."""
        parts = {part.name: part for part in self._parts.objects}
        missing = [placed.name for placed in self.manifest.objects if placed.name not in parts]
        if missing:
            raise InputError(f"{self.folder / 'scene.glb'} lacks {', '.join(missing)}; make the scene again.")
        return tuple(SceneObject(placed, parts[placed.name]) for placed in self.manifest.objects)

    @cached_property
    def background(self) -> Mapping[str, trimesh.Trimesh]:
        """Floor and backdrop by name, textured, in the world frame (metres, Y up)."""
        return {part.name: as_trimesh(part) for part in self._parts.background}

    @property
    def failures(self) -> tuple[Failure, ...]:
        """What is missing, and why; empty for a complete scene."""
        return self.manifest.failures

    @cached_property
    def graph(self) -> nx.DiGraph:
        """What stands on, hides, touches and holds what; see `scenegen.scene.graph`."""
        path = self.folder / "scene_graph.json"
        try:
            return from_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, LookupError, TypeError, nx.NetworkXError) as error:
            raise InputError(f"{path} cannot be read ({one_line(str(error))}); make the scene again.") from error

    @cached_property
    def camera(self) -> PhotoCamera:
        """The photo's camera at its place in the world."""
        return PhotoCamera(self._parts.intrinsics, self._parts.world_from_camera)

    def to_trimesh(self) -> trimesh.Scene:
        """Objects and background as a `trimesh.Scene` in the world frame, each under its name.

        Examples:
            >>> "floor" in load("out/photo").to_trimesh().geometry
            True
        """
        import trimesh

        return trimesh.Scene({**{item.name: item.mesh for item in self.objects}, **self.background})

    def save(self, out: StrPath) -> Path:
        """Writes the scene to a folder in `out`, byte for byte as the command line with `-o out` would.

        What it was made from goes to the store in `out`, so that the command line goes on from there. A scene of the same name
        in `out` is replaced; other files in its folder stay.

        Args:
            out: folder that gets the folder of the scene.

        Returns:
            The folder of the scene.

        Raises:
            UsageError: if there can be no such folder.
            InputError: if a loaded scene has no store beside it any more.
            ResourceError: if the disk cannot be written.

        Examples:
            >>> load("out/photo").save("copies").as_posix()
            'copies/photo'
        """
        check_folder(Path(out))
        return _copied(self, Path(out))

    def regenerate(
        self,
        object_id: int,
        seed: int | None = None,
        *,
        device: str = "auto",
        offline: bool = False,
        isolate: bool = False,
        progress: bool | None = None,
    ) -> PhotoScene:
        """Makes one object again; the others stay as they are, where they are. This scene does not change.

        Args:
            object_id: `SceneObject.id` of the object, also of one that has failed.
            seed: its new seed; by default the one after its last.
            device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
            offline: never use the network.
            isolate: make the object in a process of its own on the CPU too.
            progress: as in `make`.

        Returns:
            The scene with the new object, in a temporary folder.

        Raises:
            UsageError: if the scene has no such object, or for an option that is not allowed.
            InputError: if the store has lost what the scene was made from.
            ScenegenError: from the stage that failed.

        Examples:
            >>> scene = load("out/photo").regenerate(1, seed=7)
            >>> scene.objects[0].placed.seed
            7
            >>> scene.save("out").as_posix()
            'out/photo'
        """
        check_object(object_id, seed)
        options = RunOptions(device=device, offline=offline, isolate=isolate)
        options.check()
        runtime = options.runtime()
        config = self.manifest.config
        require_models(config, runtime, segments=False, measures=False)

        with _temporary_folder() as out:
            _copied(self, out)
            store = open_store(out)
            with (
                workplace(store, [config], runtime, 1, isolate=isolate) as place,
                showing(f"{self.name}, object {object_id}", progress) as watch,
                place.submit(watch) as submit,
            ):
                result = make_anew(out / self.name, object_id, seed, store, runtime, submit)
            return PhotoScene(Path(result.folder), out)

    @cached_property
    def _parts(self) -> PartScene:
        return read_glb(self.folder / "scene.glb")

    def __repr__(self) -> str:
        return f"<PhotoScene {self.name!r}: {len(self.manifest.objects)} objects, {self.manifest.state}>"

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        rows = "".join(
            f"<tr><td>{placed.id}</td><td>{escape(placed.label)}</td><td>{placed.scores.silhouette_iou:.3f}</td></tr>"
            for placed in self.manifest.objects
        )
        head = "<tr><th>id</th><th>label</th><th>silhouette IoU</th></tr>"
        return f"<table><caption>{escape(self.name)}, {self.manifest.state}</caption>{head}{rows}</table>"


def make(
    image: StrPath,
    *,
    masks: StrPath | None = None,
    box: str | Sequence[str] = (),
    point: str | Sequence[str] = (),
    find: str | Sequence[str] | None = None,
    depth: StrPath | None = None,
    depth_kind: str | None = None,
    camera: StrPath | None = None,
    meshes: StrPath | None = None,
    fov: float | None = None,
    seed: int | None = None,
    preset: str | None = None,
    config: StrPath | None = None,
    set: str | Sequence[str] = (),
    export: str | None = None,
    device: str = "auto",
    offline: bool = False,
    isolate: bool = False,
    jobs: int | None = None,
    ray: str | None = None,
    progress: bool | None = None,
) -> PhotoScene:
    """Makes a scene of a photo. The options are those of the command line, by the same names.

    Files are written to a temporary folder only, which is removed with the scene: `PhotoScene.save` keeps it. (The user's cache
    folder gets digests of scenegen's own code.) One object that fails does not lose the others: see `PhotoScene.failures`.

    It runs here, whatever `PREFECT_API_URL` says; as a Prefect flow, `flows.scene.image_to_scene` does the same.

    Sums of numpy and scipy run on one thread of this process from then on, so that the same photo gives the same bytes.

    Args:
        image: the photo: JPEG, PNG, WebP, AVIF, TIFF, HEIC or another format of docs/inputs.md.
        masks: picture of object ids; folder of pictures, one per object; `.npy`, `.npz`, or JSON of COCO, SAM or LabelMe.
        box: objects to make, and no others, by the boxes around them: `"x0,y0,x1,y1"` in pixels of the upright photo.
        point: the same by clicks: `"x,y"`, or `"x,y x,y,0"`, where 0 marks a click beside the object.
        find: the same by what they are called: `"mug, book"`, or a list.
        depth: depth map: `.npy`, `.npz`, `.exr`, `.png`, `.tif` or `.pfm`.
        depth_kind: what it holds: `auto`, `z`, `distance`, `disparity`, `inverse`, `relative` or `points`.
        camera: the photo's camera: `fx fy cx cy`, `transforms.json`, COLMAP, glTF or USD.
        meshes: folder of meshes of your own, `N.glb` for object N, which are placed instead of generated ones.
        fov: horizontal field of view of the camera in degrees, if `camera` is not given.
        seed: of everything random.
        preset: one of those that `scenegen config presets` lists.
        config: YAML file laid over the preset.
        set: settings, as `"a.b=c"`.
        export: more formats to write, separated by commas: `obj`, `ply`, `stl`, `objects`.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
        offline: never use the network.
        isolate: make objects in processes of their own on the CPU too.
        jobs: objects at once on the CPU; by default two per core, at most 4.
        ray: address of a Ray cluster that makes the objects. All its machines must see the temporary folder (`TMPDIR`).
        progress: whether to show how far it is; by default in notebooks only.

    Raises:
        UsageError: for an option that is not allowed.
        InputError: if the photo or a file that belongs to it cannot be used.
        WeightsError: if weights or optional packages are missing.
        ResourceError: if a device, memory or disk is absent or full.
        ExportError: if the scene fails its own validation.

    Examples:
        >>> scene = make("photo.jpg", masks="masks.png", fov=55)
        >>> scene
        <PhotoScene 'photo': 3 objects, complete>
        >>> scene.objects[0].mesh.bounds.shape
        (2, 3)
        >>> scene.save("out").as_posix()
        'out/photo'
    """
    options = SceneRunOptions(device=device, offline=offline, isolate=isolate, jobs=jobs, ray=ray)
    options.check()
    given = InputOptions(_path(masks), _path(depth), depth_kind, _path(camera), _path(meshes))
    settings = scene_config(
        ConfigOptions(preset=preset, config=_path(config), set_=_texts(set), export=export),
        given,
        PromptOptions(_texts(box), _texts(point), None if find is None else ",".join(_texts(find))),
        single=True,
        fov=fov,
        seed=seed,
    )
    photo = Path(image)

    def inputs(out: Path) -> Inputs:
        (name,) = folder_names([photo], out)
        return companions(photo, name, given, single=True)

    return _made(inputs, settings, options, photo.name, progress)


def make_views(
    photos: Sequence[StrPath],
    *,
    name: str = "",
    masks: StrPath | None = None,
    depth: StrPath | None = None,
    depth_kind: str | None = None,
    camera: StrPath | None = None,
    fov: float | None = None,
    seed: int | None = None,
    preset: str | None = None,
    config: StrPath | None = None,
    set: str | Sequence[str] = (),
    export: str | None = None,
    device: str = "auto",
    offline: bool = False,
    isolate: bool = False,
    jobs: int | None = None,
    ray: str | None = None,
    progress: bool | None = None,
) -> PhotoScene:
    """Makes one scene of several photos of it. The options are those of `make` and of `scenegen views`, by the same names.

    Args:
        photos: of the scene. The first is the main view: the scene is laid out in its camera.
        name: of the scene's folder; by default the stem of the first photo.
        masks: folder with one entry per photo, named after it, each as in `make`; the same ids mean the same objects.
        depth: folder with one depth map per photo.
        depth_kind: what they hold.
        camera: of all photos (`transforms.json`, COLMAP), or a folder with one per photo. Poses are used where it has them;
            otherwise they are found by COLMAP, which needs `pycolmap`.
        fov: horizontal field of view of all cameras in degrees, if `camera` is not given.
        seed: as in `make`, like all that follow.
        preset: a preset whose generator takes several views.
        config: YAML file laid over the preset.
        set: settings, as `"a.b=c"`.
        export: more formats to write.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
        offline: never use the network.
        isolate: make objects in processes of their own on the CPU too.
        jobs: objects at once on the CPU.
        ray: address of a Ray cluster that makes the objects.
        progress: whether to show how far it is.

    Raises:
        UsageError: for an option that is not allowed, or a single photo.
        InputError: if a file cannot be used, or no two photos belong together.
        WeightsError: if weights or optional packages are missing.
        ResourceError: if a device, memory or disk is absent or full.
        ExportError: if the scene fails its own validation.

    Examples:
        >>> scene = make_views(["left.jpg", "right.jpg"], name="desk")  # doctest: +SKIP
        >>> [view.photo for view in scene.objects[0].placed.views]  # doctest: +SKIP
        ['left', 'right']
    """
    options = SceneRunOptions(device=device, offline=offline, isolate=isolate, jobs=jobs, ray=ray)
    options.check()
    given = InputOptions(_path(masks), _path(depth), depth_kind, _path(camera))
    settings = scene_config(
        ConfigOptions(preset=preset, config=_path(config), set_=_texts(set), export=export),
        given,
        PromptOptions(),
        single=False,
        fov=fov,
        seed=seed,
    )
    paths = [Path(photo) for photo in photos]
    return _made(lambda out: views_of(paths, name, given), settings, options, name or "views", progress)


def _made(
    inputs_in: Callable[[Path], Inputs],
    settings: Config,
    options: SceneRunOptions,
    title: str,
    progress: bool | None,
) -> PhotoScene:
    """The scene of the files that `inputs_in` finds for an output folder."""
    with _temporary_folder() as out:
        inputs = inputs_in(out)
        runtime = options.runtime()
        require_models_for([inputs], settings, runtime, generates=options.ray is None)
        store = open_store(out)
        with (
            workplace(store, [settings], runtime, options.workers(), isolate=options.isolate, ray=options.ray) as place,
            showing(title, progress) as watch,
            place.submit(watch) as submit,
        ):
            result = photo_to_scene(inputs, settings, store, runtime, submit)
        return PhotoScene(Path(result.folder), out)


def load(folder: StrPath) -> PhotoScene:
    """Opens a scene that `PhotoScene.save` or the command line wrote. Nothing is written to its folder.

    Args:
        folder: of the scene, such as `out/photo`.

    Raises:
        InputError: if it is not the folder of a scene.

    Examples:
        >>> scene = load("out/photo")
        >>> len(scene.objects)
        3
        >>> scene.graph.nodes["camera"]["kind"]
        'camera'
    """
    path = Path(folder).resolve()
    if not path.is_dir():
        raise InputError(f"{folder} is not a folder; give the folder of a scene, such as out/photo.")
    return PhotoScene(path)


def _texts(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _path(given: StrPath | None) -> Path | None:
    return None if given is None else Path(given)


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Path]:
    """A fresh folder, which is removed if the block fails."""
    with disk_errors(Path(tempfile.gettempdir())):
        folder = Path(tempfile.mkdtemp(prefix="scenegen-")).resolve()
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _copied(scene: PhotoScene, out: Path) -> Path:
    """Publishes a scene in `out`, with what it was made from and by in the store there. Returns its folder."""
    manifest, origin = scene.manifest, Store(scene.folder.parent / STORE)
    check_source(manifest, scene.folder, origin)
    target = open_store(out)
    with target.in_use():
        for path in sorted(
            {artifact.path for artifact in artifacts(manifest.source)}
            | {artifact.path for photo in manifest.others for artifact in artifacts(photo.source)}
            | origin.reached((entry.stage, entry.key) for entry in manifest.stages)
        ):
            target.take(origin, path)
        publish(target, out / scene.name, _published(manifest, target, scene.folder), manifest)
    return out / scene.name


def _published(manifest: Manifest, store: Store, folder: Path) -> list[tuple[str, Artifact]]:
    """The files of a scene as they lie in the store."""
    keys = {entry.stage: entry.key for entry in manifest.stages}
    files: list[tuple[str, Artifact]] = []
    for stage in (EXPORT, REPORT):
        entry = store.find(stage.name, keys.get(stage.name, ""))
        if entry is None:
            raise InputError(
                f"the store next to {folder} no longer has its files; copy the folder, or make the scene again."
            )
        files += stage.record.model_validate(entry.record).files
    return files
