"""Tiny stand-ins for the eight stages, so that the graph, the store, publishing and the command line can be tested."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from scenegen.records import (
    CropCamera,
    Depth,
    Export,
    Instance,
    Instances,
    Intrinsics,
    Kept,
    Layout,
    Matrix4,
    ObjectMesh,
    Objects,
    Photo,
    PlacedObject,
    Plane,
    Report,
    Scene,
    Scores,
    Source,
    Timings,
)

CAMERA = Intrinsics(width=8, height=6, fx=8, fy=8, cx=4, cy=3)
IDENTITY: Matrix4 = ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))
CROP = CropCamera(crop_from_camera=((1, 0, 0), (0, 1, 0), (0, 0, 1)), intrinsics=CAMERA)


@dataclass
class Bench:
    """What the stand-ins shall do, and what they did."""

    objects: int = 3
    errors: dict[str, BaseException] = field(default_factory=dict)
    """By stage name, or `generate N`: what it raises."""
    unreadable: str = ""
    """A photo with these bytes cannot be read."""
    executed: Counter[str] = field(default_factory=Counter)

    def enter(self, name: str) -> None:
        self.executed[name] += 1
        if name in self.errors:
            raise self.errors[name]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Puts the stand-ins into `stages.graph`."""
    from stages import graph
    from stages.stage import Stage, Work

    bench = Bench()

    def note(work: Work, name: str, text: str) -> Any:
        work.write(name).write_text(text)
        return work.artifact(name)

    def keyed(work: Work, name: str, text: str) -> Any:
        """Its content depends on all the stage was given, as that of a real stage may."""
        return note(work, name, f"{text} {work.key}")

    def read(source: Source, *, config: Any, work: Work) -> Photo:
        bench.enter("read")
        text = work.read(source.photo).read_text()
        if bench.unreadable and text == bench.unreadable:
            from scenegen.errors import InputError

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

    def segment(photo: Photo, *, config: Any, work: Work) -> Instances:
        bench.enter("segment")
        items = tuple(
            Instance(id=i + 1, label="thing", score=1, box=(0, 0, 1, 1), area=1) for i in range(bench.objects)
        )
        return Instances(masks=keyed(work, "masks.png", "m"), items=items, backend=config.method, licence="none")

    def depth(photo: Photo, instances: Instances, *, config: Any, work: Work) -> Depth:
        bench.enter("depth")
        return Depth(
            depth=keyed(work, "depth.npy", "d"),
            intrinsics=CAMERA,
            intrinsics_source="default",
            metric=False,
            uncertainty=0.1,
            backend=config.depth.method,
            licence="none",
        )

    def layout(photo: Photo, instances: Instances, depth: Depth, *, config: Any, work: Work) -> Layout:
        bench.enter("layout")
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

    def generate(
        photo: Photo, instances: Instances, depth: Depth, layout: Layout, item: int, *, config: Any, work: Work
    ) -> ObjectMesh:
        bench.enter(f"generate {item}")
        return ObjectMesh(
            id=item,
            label="thing",
            mesh=keyed(work, "mesh.npz", f"mesh {item} seed {config.seed}"),
            crop=CROP,
            backend="inflate",
            licence="none",
            seed=config.seed,
        )

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
        bench.enter("compose")
        scales = dict(kept.scales)
        placed = tuple(
            PlacedObject(
                id=item.id,
                name=f"thing_{item.id}",
                label=item.label,
                mesh=item.mesh,
                world_from_object=IDENTITY,
                scale=scales.get(item.id, 1 + item.id + item.seed / 100),
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
            intrinsics=CAMERA,
            world_from_camera=IDENTITY,
            objects=placed,
            surfaces=(),
            failures=objects.failures,
        )

    def export(photo: Photo, scene: Scene, *, config: Any, work: Work) -> Export:
        bench.enter("export")
        parts = [work.read(item.mesh).read_text() + f" scale {item.scale}" for item in scene.objects]
        files = [("scene.glb", keyed(work, "scene.glb", work.read(photo.image).read_text() + "\n".join(parts)))]
        files += [(f"objects/{item.name}.glb", item.mesh) for item in scene.objects]
        return Export(files=tuple(files))

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
        bench.enter("report")
        return Report(files=(("report.html", note(work, "report.html", f"{len(scene.objects)} objects")),))

    for stage in (
        Stage("read", 1, Photo, read),
        Stage("segment", 1, Instances, segment, weights=lambda config: {"net": "revision"}),
        Stage("depth", 1, Depth, depth),
        Stage("layout", 1, Layout, layout),
        Stage("generate", 1, ObjectMesh, generate),
        Stage("compose", 1, Scene, compose),
        Stage("export", 1, Export, export),
        Stage("report", 1, Report, report),
    ):
        monkeypatch.setattr(graph, stage.name.upper(), stage)
    # They can run in no other process, so there are no graphics cards.
    monkeypatch.setattr("stages.devices.find_spec", lambda name: None)
    return bench


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A file the stand-ins take for a photo."""
    path = tmp_path / "photo.jpg"
    path.write_text("picture")
    return path


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Address of an S3 server on this machine; what reads the environment finds it and may write there."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "tester")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-of-the-tests")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket_url(s3_server: str) -> str:
    """URL of a new, empty bucket."""
    import s3fs

    name = f"b{uuid.uuid4().hex}"
    s3fs.S3FileSystem().mkdir(name)
    return f"s3://{name}"
