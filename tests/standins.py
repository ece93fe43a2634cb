"""Tiny stand-ins for the stages, so that the graph, the store, publishing and the command line can be tested.

They are functions of a module, so that other processes can run them too. Those have a `Bench` of their own; what they do
is told from the ledger, a file that the environment variable names.
"""

from __future__ import annotations

import functools
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from injected import raise_injected

from scenegen.config import BackendConfig
from scenegen.errors import InputError
from scenegen.faults import about_object
from scenegen.records import (
    CropCamera,
    Depth,
    Export,
    Instance,
    Instances,
    Intrinsics,
    Kept,
    Layout,
    MaskEdit,
    Matrix4,
    MergeEdit,
    Metres,
    ObjectMesh,
    Objects,
    Outline,
    OutlinedObject,
    OutlinedObjects,
    Photo,
    PlacedObject,
    Plane,
    RemoveEdit,
    Report,
    Scene,
    Scores,
    Source,
    Timings,
)
from scenegen.registry import Backend, Chosen
from stages.stage import Stage, Work

CAMERA = Intrinsics(width=8, height=6, fx=8, fy=8, cx=4, cy=3)
IDENTITY: Matrix4 = ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))
CROP = CropCamera(crop_from_camera=((1, 0, 0), (0, 1, 0), (0, 0, 1)), intrinsics=CAMERA)


OBJECTS = "SCENEGEN_TEST_OBJECTS"
"""Environment variable: how many objects a photo has in another process."""


@dataclass
class Bench:
    """What the stand-ins shall do, and what they did."""

    objects: int = field(default_factory=lambda: int(os.environ.get(OBJECTS, "3")))
    errors: dict[str, BaseException] = field(default_factory=dict)
    """By stage name, or `generate N`: what it raises."""
    unreadable: str = ""
    """A photo with these bytes cannot be read."""
    executed: Counter[str] = field(default_factory=Counter)

    def enter(self, name: str) -> None:
        self.executed[name] += 1
        if name in self.errors:
            raise self.errors[name]


BENCH = Bench()
LEDGER = "SCENEGEN_TEST_LEDGER"
"""Environment variable: file that gets a line when a stand-in begins and one when it ends."""
PAUSE = "SCENEGEN_TEST_PAUSE"
"""Environment variable: seconds that `generate` takes."""
SLOW = "slow"
"""The objects of a photo with this content take for ever."""
GATE = "SCENEGEN_TEST_GATE"
"""Environment variable: file that holds the name of a photo. As long as it is there, that photo's objects are not finished."""


OBJECTS_GIVEN = (int, Outline, OutlinedObject)


def recorded(run: Callable[..., Any]) -> Callable[..., Any]:
    """The stand-in, with what it does written down."""

    @functools.wraps(run)
    def stand_in(*inputs: Any, config: Any, work: Work) -> Any:
        item = next(
            (value if isinstance(value, int) else value.id for value in inputs if isinstance(value, OBJECTS_GIVEN)),
            None,
        )
        label = run.__name__ if item is None else f"{run.__name__} {item}"
        BENCH.enter(label)
        raise_injected(label)
        write_down("start", label, work)
        record = run(*inputs, config=config, work=work)
        write_down("end", label, work)
        return record

    return stand_in


def write_down(what: str, label: str, work: Work) -> None:
    """A line of the ledger; whole, whoever else writes."""
    if LEDGER in os.environ:
        line = f"{time.time()}\t{what}\t{label}\t{work.key}\t{os.getpid()}\n"
        with Path(os.environ[LEDGER]).open("ab", buffering=0) as ledger:
            ledger.write(line.encode())


def shut(name: str) -> bool:
    gate = Path(os.environ.get(GATE, os.devnull))
    return gate.is_file() and gate.read_text() == name


def note(work: Work, name: str, text: str) -> Any:
    work.write(name).write_text(text)
    return work.artifact(name)


def keyed(work: Work, name: str, text: str) -> Any:
    """Its content depends on all the stage was given, as that of a real stage may."""
    return note(work, name, f"{text} {work.key}")


@recorded
def read(source: Source, *, config: Any, work: Work) -> Photo:
    text = work.read(source.photo).read_bytes().decode("latin-1")
    if BENCH.unreadable and text == BENCH.unreadable:
        raise InputError("`photo` is no picture; give a JPEG, PNG or WebP.")
    return Photo(
        name=source.name,
        image=keyed(work, "image.png", text),
        alpha=None,
        masks=None,
        depth=None,
        width=8,
        height=6,
        original_width=8,
        original_height=6,
        focal_35mm=None,
        warnings=("a warning",),
    )


@recorded
def segment(photo: Photo, *, config: Any, work: Work) -> Instances:
    items = tuple(Instance(id=i + 1, label="thing", score=1, box=(0, 0, 1, 1), area=1) for i in range(BENCH.objects))
    return Instances(masks=keyed(work, "masks.png", "m"), items=items, backend=config.method, licence="none")


@recorded
def edit(photo: Photo, instances: Instances, change: MaskEdit, *, config: Any, work: Work) -> Instances:
    gone = change.object if isinstance(change, RemoveEdit) else None
    items = tuple(item for item in instances.items if item.id != gone)
    edited = instances.edited
    if isinstance(change, MergeEdit):
        gone_too = set(change.objects[1:])
        items = tuple(item for item in items if item.id not in gone_too)
        outline = Outline(id=change.objects[0], mask=keyed(work, "mask.png", "o"))
        edited = (*(each for each in edited if each.id not in change.objects), outline)
    masks = keyed(work, "masks.png", "e")
    return instances.model_copy(update={"masks": masks, "items": items, "edited": edited})


@recorded
def outline(
    photo: Photo, instances: Instances, depth: Depth, layout: Layout, drawn: Outline, *, config: Any, work: Work
) -> OutlinedObject:
    return OutlinedObject(
        id=drawn.id,
        mask=drawn.mask,
        depth=keyed(work, "depth.npy", "d"),
        relief_error=0.1,
        limit=keyed(work, "limit.npy", "l"),
        on_object=False,
    )


@recorded
def measure(
    photo: Photo, instances: Instances, depth: Depth, outlined: OutlinedObjects, *, config: Any, work: Work
) -> Depth:
    return depth.model_copy(update={"depth": keyed(work, "depth.npy", "m")})


@recorded
def depth(photo: Photo, instances: Instances, *, config: Any, work: Work) -> Depth:
    return Depth(
        depth=keyed(work, "depth.npy", "d"),
        intrinsics=CAMERA,
        intrinsics_source="default",
        metres=Metres(source="assumed", factor=2.2),
        uncertainty=0.1,
        relief_error=0.1,
        backend=config.depth.method,
        licence="none",
    )


@recorded
def layout(
    photo: Photo, instances: Instances, depth: Depth, views: Any = None, before: Any = None, *, config: Any, work: Work
) -> Layout:
    return Layout(
        intrinsics=CAMERA,
        world_from_camera=IDENTITY,
        floor=Plane(normal=(0, -1, 0), offset=1),
        floor_source="assumed",
        surfaces=(),
        supports=(),
        limit=keyed(work, "limit.npy", "l"),
        backend="planes",
    )


@recorded
def generate(
    photo: Photo,
    instances: Instances,
    depth: Depth,
    layout: Layout,
    item: int | OutlinedObject,
    *,
    config: Any,
    work: Work,
) -> ObjectMesh:
    time.sleep(600 if work.read(photo.image).read_text().startswith(SLOW) else float(os.environ.get(PAUSE, "0")))
    while shut(photo.name):
        time.sleep(0.05)
    number = item if isinstance(item, int) else item.id
    return ObjectMesh(
        id=number,
        mesh=keyed(work, "mesh.npz", f"mesh {number} seed {config.seed}"),
        crop=CROP,
        backend="inflate",
        licence="none",
        seed=config.seed,
    )


@recorded
def compose(
    photo: Photo,
    instances: Instances,
    depth: Depth,
    layout: Layout,
    objects: Objects,
    kept: Kept,
    *,
    config: Any,
    work: Work,
) -> Scene:
    scales = {placed.id: placed.scale for placed in kept.objects}
    for item in objects.items:
        with about_object(item.id):
            raise_injected(f"compose {item.id}")
    placed = tuple(
        PlacedObject(
            id=item.id,
            name=f"thing_{item.id}",
            label="thing",
            mesh=item.mesh,
            world_from_object=IDENTITY,
            scale=scales.get(item.id, 1 + item.id + item.seed % 1000 / 100),
            support=0,
            backend=item.backend,
            licence=item.licence,
            seed=item.seed,
            score=1,
            scores=Scores(silhouette_iou=0.9 + item.id / 100, depth_error=None, colour_psnr=None),
        )
        for item in objects.items
    )
    return Scene(
        graph=keyed(work, "graph.json", "{}"),
        metres=depth.metres,
        intrinsics=CAMERA,
        world_from_camera=IDENTITY,
        objects=placed,
        surfaces=(),
        failures=objects.failures,
    )


@recorded
def export(photo: Photo, scene: Scene, kept: Kept, *, config: Any, work: Work) -> Export:
    parts = [work.read(item.mesh).read_text() + f" scale {item.scale}" for item in scene.objects]
    files = [("scene.glb", keyed(work, "scene.glb", work.read(photo.image).read_text() + "\n".join(parts)))]
    files += [(f"objects/{item.name}.glb", item.mesh) for item in scene.objects]
    return Export(files=tuple(files), colliders=keyed(work, "colliders.npz", "c"))


@recorded
def report(
    photo: Photo,
    instances: Instances,
    depth: Depth,
    layout: Layout,
    scene: Scene,
    export: Export,
    timings: Timings,
    *,
    config: Any,
    work: Work,
) -> Report:
    return Report(files=(("report.html", note(work, "report.html", f"{len(scene.objects)} objects")),))


def net(*inputs: Any) -> None:
    """Of a back-end that is never run."""


def with_weights(revision: str) -> Callable[[Any], tuple[Chosen[Any], ...]]:
    """The back-ends of a stage that computes with the weights `net`."""
    backend = Backend(config=BackendConfig, run=net, gives=(), weights=lambda config: {"net": revision})
    return lambda config: (Chosen(backend, config),)


STAGES: tuple[Stage[Any], ...] = (
    Stage("read", Photo, read),
    Stage("segment", Instances, segment, backends=with_weights("revision")),
    Stage("edit", Instances, edit),
    Stage("depth", Depth, depth),
    Stage("outline", OutlinedObject, outline),
    Stage("measure", Depth, measure),
    Stage("layout", Layout, layout),
    Stage("generate", ObjectMesh, generate),
    Stage("compose", Scene, compose),
    Stage("export", Export, export),
    Stage("report", Report, report),
)
