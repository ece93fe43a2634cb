"""Objects, depth, field of view and gravity of the perception back-ends, against ground truth.

    python benchmarks/perception.py FOLDER... [--stereo] [--weights FILE] [--json FILE]

A FOLDER holds pictures in a layout of `scenegen.evaluate.ground_truth`; `--stereo` adds the motorcycle of scikit-image
(Middlebury 2014), whose depth follows from its disparity. Every picture is seen by the embedded network and by the training-free
back-ends (`regions`, `ground`); each finds depth with the objects it found itself. Nothing is drawn at random.

Depth is compared after one scale per picture (AbsRel, share within a factor of 1.25), masks by precision and recall at an IoU
of 0.5 over all labelled objects: where a picture labels only some of what it shows, precision is too low for everybody.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from unittest import mock

import cv2
import numpy as np

from scenegen.camera import intrinsics_from_fov
from scenegen.compute.runtime import Runtime
from scenegen.config import CameraConfig, EmbeddedDepthConfig, EmbeddedSegmentConfig, GroundConfig, RegionsConfig
from scenegen.evaluate.ground_truth import find_folders, load_depth, load_masks, read_truth
from scenegen.evaluate.measure import measure_perception
from scenegen.perception import embedded
from scenegen.perception.ground import estimate_ground
from scenegen.perception.masks import clean_masks
from scenegen.perception.regions import segment_regions
from scenegen.records import Intrinsics
from scenegen.store.png import read_png
from scenegen.store.store import Store

MAX_SIDE = 1280
"""Of the working size, as of the main job."""
STEREO_FOCAL, STEREO_SHIFT = 994.978, 31.086
"""Of the motorcycle pair as scikit-image ships it, in pixels: focal length, and difference of the principal points."""


@dataclass(frozen=True, eq=False)
class Sample:
    """A picture and what is known of it."""

    group: str
    name: str
    image: np.ndarray
    ids: np.ndarray | None
    depth: np.ndarray | None
    camera: Intrinsics | None
    down: np.ndarray | None
    """Unit vector of gravity, camera frame."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What a back-end says."""

    ids: np.ndarray
    depth: np.ndarray
    camera: Intrinsics
    down: np.ndarray


def samples(folder: Path, store: Store) -> Iterator[Sample]:
    """The pictures of a folder that come with anything to compare with."""
    for path in find_folders(folder):
        truth = read_truth(path, store)
        if truth.depth is None and truth.masks is None:
            continue
        picture = cv2.imread(str(store.path(truth.image)), cv2.IMREAD_COLOR)
        pose = truth.world_from_camera
        yield Sample(
            group=folder.name,
            name=path.name,
            image=np.ascontiguousarray(picture[..., ::-1]),
            ids=load_masks(truth, store.path),
            depth=load_depth(truth, store.path),
            camera=truth.intrinsics,
            down=None if pose is None else -np.array(pose)[1, :3],
        )


def motorcycle() -> Sample:
    """The left picture of the pair; z = f b / (d + shift), the baseline b left out as a scale."""
    folder = files("skimage") / "data"
    picture = read_png(Path(str(folder / "motorcycle_left.png")))
    with np.load(str(folder / "motorcycle_disp.npz")) as archive:
        disparity = archive["arr_0"].astype(np.float64)
    known = np.isfinite(disparity)
    depth = np.where(known, STEREO_FOCAL / (np.where(known, disparity, 1) + STEREO_SHIFT), 0).astype(np.float32)
    height, width = depth.shape
    camera = Intrinsics(
        width=width, height=height, fx=STEREO_FOCAL, fy=STEREO_FOCAL, cx=width / 2, cy=height / 2
    )  # its centre is not the principal point; only the field of view is used
    return Sample("stereo", "motorcycle", picture[..., :3].copy(), None, depth, camera, None)


def see_embedded(image: np.ndarray) -> Seen:
    """The embedded network, as the preset `embedded` uses it."""
    runtime, config = Runtime(device="cpu"), EmbeddedSegmentConfig()
    height, width = image.shape[:2]
    ids = _cleaned(embedded.segment_embedded(image, config, runtime).ids, config.min_area)
    depth = embedded.estimate_depth_embedded(image, ids, EmbeddedDepthConfig(), runtime).depth
    perception = embedded.perceive(image, runtime)
    return Seen(ids, depth, intrinsics_from_fov(width, height, perception.fov_x_deg), perception.down)


def see_training_free(image: np.ndarray) -> Seen:
    """`regions` and `ground` with the default camera, as the preset `training-free` uses them."""
    height, width = image.shape[:2]
    config, ground = RegionsConfig(), GroundConfig()
    ids = _cleaned(segment_regions(image, config).ids, config.min_area)
    camera = intrinsics_from_fov(width, height, CameraConfig().default_fov_deg)
    pitch = np.radians(ground.pitch_deg)
    return Seen(ids, estimate_ground(ids, camera, ground).depth, camera, np.array([0, np.cos(pitch), np.sin(pitch)]))


METHODS: dict[str, Callable[[np.ndarray], Seen]] = {"embedded": see_embedded, "training-free": see_training_free}


def measure(sample: Sample, method: str) -> dict[str, float | int | str | None]:
    """One row."""
    height, width = sample.image.shape[:2]
    scale = min(1.0, MAX_SIDE / max(height, width))
    image = (
        cv2.resize(sample.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else sample.image
    )
    begin = time.perf_counter()
    seen = METHODS[method](image)
    seconds = time.perf_counter() - begin
    scores = measure_perception(seen.ids, seen.depth, seen.camera, sample.ids, sample.depth, sample.camera)
    right = None if scores.mask_recall is None else round(scores.mask_recall * (scores.labelled or 0))
    gravity = None
    if sample.down is not None:
        gravity = float(np.degrees(np.arccos(np.clip(seen.down @ sample.down, -1, 1))))
    return {
        "group": sample.group,
        "picture": sample.name,
        "method": method,
        "found": scores.found,
        "labelled": scores.labelled,
        "right": right,
        "mask_iou": scores.mask_iou,
        "abs_rel": None if scores.depth is None else scores.depth.abs_rel,
        "delta_1": None if scores.depth is None else scores.depth.delta_1,
        "fov_error_deg": scores.fov_error_deg,
        "gravity_error_deg": gravity,
        "seconds": seconds,
    }


def summary(rows: list[dict[str, float | int | str | None]]) -> dict[str, float | int | None]:
    """Of the rows of one group and method: sums for masks, means over pictures for the rest."""

    def mean(name: str) -> float | None:
        values = [abs(float(row[name])) for row in rows if row[name] is not None]
        return round(float(np.mean(values)), 4) if values else None

    labelled = [row for row in rows if row["labelled"]]
    found, true, right = (sum(int(row[name] or 0) for row in labelled) for name in ("found", "labelled", "right"))
    return {
        "pictures": len(rows),
        "objects": true,
        "mask_precision": round(right / found, 4) if found else None,
        "mask_recall": round(right / true, 4) if true else None,
        **{name: mean(name) for name in ("mask_iou", "abs_rel", "delta_1", "fov_error_deg", "gravity_error_deg")},
        "median_seconds": round(float(np.median([row["seconds"] for row in rows])), 2),
    }


def _cleaned(ids: np.ndarray, min_area: float) -> np.ndarray:
    """As the segment stage leaves them."""
    return clean_masks(ids, round(min_area * ids.size)).ids


def main() -> None:
    """Measures every picture with every method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--stereo", action="store_true")
    parser.add_argument("--weights", type=Path, default=embedded.WEIGHTS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        store = Store(Path(temporary))
        pictures = [sample for folder in options.folders for sample in samples(folder, store)]
        pictures += [motorcycle()] if options.stereo else []
        with mock.patch.object(embedded, "WEIGHTS", options.weights):
            for sample in pictures:
                for method in options.methods:
                    rows.append(measure(sample, method))
                    print("  ".join(f"{name}={_short(value)}" for name, value in rows[-1].items()), flush=True)
    groups = {}
    for row in rows:
        groups.setdefault(f"{row['group']}/{row['method']}", []).append(row)
    summaries = {name: summary(members) for name, members in groups.items()}
    print(json.dumps(summaries, indent=1))
    if options.json:
        options.json.write_text(json.dumps({"summary": summaries, "pictures": rows}, indent=1))


def _short(value: float | int | str | None) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
