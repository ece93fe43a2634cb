"""What scaling all objects together and making them stand changes, and how long finding the scales takes.

    python -m scenegen evaluate --scenes SCENES --json before.json -o BEFORE --set compose.contact=false
    python -m scenegen evaluate --scenes SCENES --json after.json -o AFTER
    python benchmarks/standing.py SCENES BEFORE AFTER

Of objects that both runs made: how far off the distance of what is seen is, after one scale for each scene; the gap between the
floor and the lowest point of what truly stands on it; the silhouette IoU. `scenegen evaluate compare before.json after.json` has
box IoU and penetration. Without folders only the time for twenty objects in ten stacks is measured.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh

from scenegen.export.glb import read_glb
from scenegen.export.manifest import read_manifest
from scenegen.geometry.distance import distances
from scenegen.scene.placement import surface_depth
from scenegen.scene.scoring import intersection_over_union
from scenegen.scene.solve import Candidate, solve_scales
from scenegen.store.png import read_png

SAME = 0.5
"""Mask IoU from which a found object is a true one."""


@dataclass(frozen=True)
class Standing:
    """How one object is placed."""

    distance: float
    """Logarithm of its distance over the true one."""
    gap: float
    """Metres between the floor and its lowest point; NaN if something else truly carries it."""
    iou: float


def main() -> None:
    """Measures two folders of scenes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="*", metavar="SCENES BEFORE AFTER")
    options = parser.parse_args()
    if options.folders:
        scenes, *runs = options.folders
        compared(*(all_placed(scenes, run) for run in runs))
    times = sorted(seconds(stacks(10)) for _ in range(5))
    print(f"twenty objects in ten stacks: {times[2]:.2f} s of the processor in the median")


def compared(before: dict[tuple[str, int], Standing], after: dict[tuple[str, int], Standing]) -> None:
    """Prints what changes."""
    both = sorted(before.keys() & after.keys())
    for name, run in (("before", before), ("after", after)):
        errors = np.array([abs(run[key].distance) for key in both])
        gaps = np.abs([run[key].gap for key in both])
        ious = np.array([run[key].iou for key in both])
        print(
            f"{name}: {len(both)} objects, distance error {errors.mean():.4f} / {np.median(errors):.4f} (mean / median), gap "
            f"{1000 * np.nanmean(gaps):.1f} mm, silhouette IoU {ious.mean():.4f} / {np.median(ious):.4f}"
        )
    change = np.array([after[key].iou - before[key].iou for key in both])
    print(f"silhouette IoU, change: mean {change.mean():+.4f}, median {np.median(change):+.4f}")
    print(f"objects whose IoU falls by more than 0.002: {(change < -0.002).sum()} of {len(both)}")
    for key in np.argsort(change)[:5]:
        print(f"  {both[key][0]}, object {both[key][1]}: {change[key]:+.4f}")


def all_placed(scenes: Path, run: Path) -> dict[tuple[str, int], Standing]:
    """How every true object that was made is placed, by scene and true id."""
    found = {}
    for truth in sorted(path.parent for path in scenes.glob("*/scene.json")):
        if (run / truth.name / "scene.glb").exists():
            found |= {(truth.name, number): item for number, item in placed(truth, run / truth.name).items()}
    return found


def placed(truth: Path, folder: Path) -> dict[int, Standing]:
    """The same of one scene, by true id."""
    true_ids, true_z = read_png(truth / "masks.png"), np.load(truth / "depth.npy")
    standing = {
        item["id"]: item.get("support", "") for item in json.loads((truth / "scene.json").read_text())["objects"]
    }
    scene, ids = read_glb(folder / "scene.glb"), read_png(folder / "masks.png")
    scores = {item.id: item.scores.silhouette_iou for item in read_manifest(folder).objects}
    camera_from_world = np.linalg.inv(scene.world_from_camera)
    found = {}
    for part in scene.objects:
        number = int(part.facts["id"])
        mask = ids == number
        true = max(standing, key=lambda each: intersection_over_union(true_ids == each, mask))
        if intersection_over_union(true_ids == true, mask) < SAME:
            continue
        mesh = part.mesh.transformed(camera_from_world @ part.world_from_part)
        z = surface_depth(mesh.vertices, mesh.faces, scene.intrinsics, mask)
        both = (z > 0) & (true_ids == true) & (true_z > 0)
        on_floor = not str(standing[true]).startswith("object")
        lowest = float((part.mesh.vertices[:, 1] + part.world_from_part[1, 3]).min())
        found[true] = Standing(
            float(np.log(np.median(z[both] / true_z[both]))), lowest if on_floor else np.nan, scores[number]
        )
    scale = float(np.median([item.distance for item in found.values()])) if found else 0.0
    return {number: Standing(item.distance - scale, item.gap, item.iou) for number, item in found.items()}


def stacks(count: int) -> tuple[dict[int, Candidate], list[tuple[int, int]]]:
    """Boxes on boxes, side by side, of which depth says wrong distances, and the pairs that hide one another."""
    rng = np.random.default_rng(0)
    objects: dict[int, Candidate] = {}
    pairs = []
    for number in range(count):
        low, high = 2 * number + 1, 2 * number + 2
        for each, size, top in ((low, 0.4, 1.0), (high, 0.2, 0.6)):
            box = trimesh.creation.icosphere(4, radius=size / 2) if number % 2 else trimesh.creation.box([size] * 3)
            box.apply_translation([0.5 * number - 2.5, top - size / 2, 3.0])
            vertices, faces = np.array(box.vertices), np.array(box.faces, np.int32)
            scale = float(rng.uniform(0.9, 1.1))
            objects[each] = Candidate(
                scale=scale,
                spread=0.1,
                smallest=scale / 1.3,
                largest=scale * 1.3,
                size=size,
                lowest=-top,
                on_floor=each == low,
                supporter=None if each == low else low,
                points=np.array(box.sample(600, seed=each)),
                solid=distances(vertices, faces),
            )
        pairs.append((low, high))
    return objects, pairs


def seconds(scene: tuple[dict[int, Candidate], list[tuple[int, int]]]) -> float:
    """Of the processor, for the scales of a scene."""
    start = time.process_time()
    solve_scales(*scene, [], 1.0)
    return time.process_time() - start


if __name__ == "__main__":
    main()
