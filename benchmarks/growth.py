"""How a batch grows: wall time, the share that is not stages, and the memory of the process that runs it.

    python benchmarks/growth.py [--sizes 10 40 160] [--workers 8] [--seconds 1] [--json FILE]

Every stage is a stand-in that sleeps and writes a small file; listing, planning, child processes, store, leases,
publishing, rows and tables are the product's own. The share of orchestration is what the workers had left of their time:
1 - stage seconds / (workers x wall time until the last photo), counted over whole rounds of photos.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scenegen.compute.runtime import Runtime
from scenegen.config import Config
from scenegen.inputs.sources import Item, list_photos
from scenegen.records import (
    Artifact,
    CropCamera,
    Depth,
    Export,
    Instance,
    Instances,
    Intrinsics,
    Layout,
    Matrix4,
    Metres,
    ObjectMesh,
    Photo,
    PlacedObject,
    Plane,
    Record,
    Report,
    Scene,
    Scores,
)
from stages import graph
from stages.batch import Job, Row, open_outlet, pending, plan, run_item, run_items, standing
from stages.stage import Stage, Work
from stages.table import write_table

STAGES = 8
"""Of a photo with one object."""
SECONDS = "SCENEGEN_GROWTH_SECONDS"
CAMERA = Intrinsics(width=8, height=6, fx=8, fy=8, cx=4, cy=3)
IDENTITY: Matrix4 = ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))
CROP = CropCamera(crop_from_camera=((1, 0, 0), (0, 1, 0), (0, 0, 1)), intrinsics=CAMERA)
METRES = Metres(source="assumed", factor=2.0)
BACKEND: dict[str, Any] = {"backend": "sleeps", "licence": "none"}


def record(stage: str, inputs: tuple[Any, ...], file: Artifact) -> Record:
    """A valid record of `stage`: one object, everything in `file`."""
    item = Instance(id=1, label="thing", score=1, box=(0, 0, 1, 1), area=1)
    given = {type(value).__name__: value for value in inputs}
    match stage:
        case "read":
            size = {"width": 8, "height": 6, "original_width": 8, "original_height": 6}
            nothing = {"alpha": None, "masks": None, "depth": None, "focal_35mm": None}
            return Photo(name=given["Source"].name, image=file, **size, **nothing)
        case "segment":
            return Instances(masks=file, items=(item,), **BACKEND)
        case "depth":
            return Depth(
                depth=file,
                intrinsics=CAMERA,
                intrinsics_source="default",
                metres=METRES,
                uncertainty=0.1,
                relief_error=0.1,
                **BACKEND,
            )
        case "layout":
            floor = Plane(normal=(0, -1, 0), offset=1)
            frame = {"intrinsics": CAMERA, "world_from_camera": IDENTITY, "floor": floor, "floor_source": "assumed"}
            return Layout(**frame, surfaces=(), supports=(), limit=file, backend="sleeps")
        case "generate":
            return ObjectMesh(id=1, mesh=file, crop=CROP, seed=0, **BACKEND)
        case "compose":
            made = given["Objects"].items[0]
            scores = Scores(silhouette_iou=0.9, depth_error=None, colour_psnr=None)
            place = {"world_from_object": IDENTITY, "scale": 1.0, "support": 0, "seed": 0, "score": 1.0}
            placed = PlacedObject(
                id=1, name="thing_1", label="thing", mesh=made.mesh, scores=scores, **place, **BACKEND
            )
            frame = {"intrinsics": CAMERA, "world_from_camera": IDENTITY}
            return Scene(graph=file, metres=METRES, objects=(placed,), surfaces=(), failures=(), **frame)
        case "export":
            return Export(files=(("scene.glb", file),))
    return Report(files=(("report.html", file),))


def sleeping(stage: Stage[Any]) -> Stage[Any]:
    """`stage`, asleep."""

    def run(*inputs: Any, config: Any, work: Work) -> Record:
        time.sleep(float(os.environ[SECONDS]))
        work.write("file").write_text(work.key)
        return record(stage.name, inputs, work.artifact("file"))

    return replace(stage, run=run, backends=lambda config: ())


def asleep(item: Item, job: Job) -> Row:
    """What a child of the batch does."""
    put_to_sleep()
    return run_item(item, job)


@functools.cache
def put_to_sleep() -> None:
    """Every stage of this process does nothing but sleep."""
    for name in ("READ", "SEGMENT", "DEPTH", "LAYOUT", "GENERATE", "COMPOSE", "EXPORT", "REPORT"):
        setattr(graph, name, sleeping(getattr(graph, name)))


def batch(folder: Path, size: int, workers: int, work: Callable[[Item, Job], Row]) -> dict[str, float]:
    """One batch of `size` pictures, from listing to table."""
    rng = np.random.default_rng(size)
    (folder / "photos").mkdir(parents=True)
    for number in range(size):
        picture = Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8))
        picture.save(folder / "photos" / f"{number:04}.png")
    start = time.perf_counter()
    items = list_photos(str(folder / "photos")).items
    job = plan(str(folder / "out"), Config(), Runtime(device="cpu"))
    rows = {row.name: row for row in standing(items, job)}
    todo = pending(items, tuple(rows.values()))
    planned, memory, begun = time.perf_counter(), [], None
    for row in run_items(todo, job, workers, 3600, work):
        assert row.state == "complete", row.error
        begun = begun or time.perf_counter()
        rows[row.name] = row
        memory.append(resident_mb())
    made = time.perf_counter()
    write_table(tuple(rows.values()), open_outlet(job).folder)
    slept = STAGES * float(os.environ[SECONDS])
    # The first round also starts the child processes, which costs the same whatever the size.
    rounds = math.ceil(size / workers) - 1
    assert begun is not None
    return {
        "photos": size,
        "wall_s": round(time.perf_counter() - start, 2),
        "listing_and_planning_s": round(planned - start, 3),
        "first_photo_s": round(begun - planned, 2),
        "s_per_round_after_the_first": round((made - begun) / rounds, 3) if rounds else math.nan,
        "orchestration_percent": round(100 * (1 - slept * rounds / (made - begun)), 2) if rounds else math.nan,
        "table_s": round(time.perf_counter() - made, 3),
        "memory_mb_at_first_photo": round(memory[0], 1),
        "memory_mb_at_last_photo": round(memory[-1], 1),
    }


def resident_mb() -> float:
    """Resident memory of this process; its peak where the system has no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    """Measures on the CPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 40, 160])
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each stage")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ[SECONDS] = str(options.seconds)
    # By its importable name: the children cannot see this script's own.
    import growth

    with tempfile.TemporaryDirectory() as folder:
        results = [
            growth.batch(Path(folder) / str(size), size, options.workers, growth.asleep) for size in options.sizes
        ]
    print(json.dumps(results, indent=1))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
