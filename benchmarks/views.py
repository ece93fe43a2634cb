"""What more views of an object are worth: the embedded generator given 1, 2 and 4 of them, on held-out meshes.

    python benchmarks/views.py --meshes MESHES [--weights FILE] [--objects N] [--error SHARE] [--json FILE]

Each object stands among neighbours and is seen from four cameras anywhere around it (`scenegen.train.views`). It is made from the
first one, two and four of them, and compared with the true mesh: silhouettes in directions from which no view looks, and the
F-score. Beside it stands what could be done without a generator of several views: an object from each view alone, their fields
fused after the fact, by mean and by intersection. Everything is refined on the pixels of the same views (`refine`).
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from scipy import ndimage

from scenegen.camera import transform
from scenegen.config import EmbeddedGeneratorConfig
from scenegen.errors import InputError, ScenegenError
from scenegen.evaluate.alignment import IDENTITY
from scenegen.evaluate.measure import Cloud, cloud, cloud_scores
from scenegen.evaluate.metrics import bootstrap
from scenegen.evaluate.sampling import Triangles
from scenegen.evaluate.summary import interval_text, number_text
from scenegen.geometry.field import Field, cube_edge, metric_crop_from_latent, nearest_depth, seen_cells
from scenegen.geometry.generator import ObjectView, OtherView
from scenegen.geometry.render import RayCaster
from scenegen.pixal3d.compact import CompactGenerator
from scenegen.pixal3d.embedded import generated, load_generator, shape_of
from scenegen.pixal3d.visibility import TRUNCATION
from scenegen.records import Intrinsics
from scenegen.scene.scoring import intersection_over_union
from scenegen.train.meshes import MeshFolder, mesh_folder
from scenegen.train.samples import estimated, parted
from scenegen.train.views import View, views
from scenegen.weights import GENERATOR

logger = logging.getLogger("views")

COUNTS = (1, 2, 4)
"""Numbers of views."""
DIRECTIONS, CANDIDATES = 8, 48
"""Directions of the silhouettes, those farthest from any view among so many spread evenly."""
SIDE = 96
"""Pixels across a silhouette."""
POINTS = 4000
"""Samples of a surface."""
SEED = 0
RESAMPLES = 10_000
METRICS = {
    "silhouette_iou": "silhouette IoU, unseen directions",
    "f_5": "F-score at 5 %",
    "f_5_hidden": "F-score at 5 %, hidden from the first view",
    "seconds": "seconds",
}
Scores = Mapping[str, float]


@dataclass(frozen=True)
class Row:
    """What was made of one object."""

    seed: int
    mesh: str
    """Its file's name."""
    scores: Mapping[str, Scores]
    """Of each way to make it."""


def run(
    *, meshes: Path, weights: Path = GENERATOR, objects: int = 20, error: float = 0.0, resolution: int = 96
) -> list[Row]:
    """Makes and scores each object in every way.

    Args:
        meshes: a folder of GLB files, of which the held-out ones are used.
        weights: of the generator.
        objects: number of meshes.
        error: error of the depth across an object, as a share of its width; with it masks and cameras are off too
            (`scenegen.train.samples.estimated`).
        resolution: cells of the refined field.
    """
    generator = load_generator(weights).eval()
    config = EmbeddedGeneratorConfig(resolution=resolution)
    _, held_out = parted(mesh_folder(meshes))
    rows = []
    for seed, seen in _shown(held_out, objects):
        mesh = held_out[seen[0].mesh]
        true = Triangles(transform(seen[0].crop_from_mesh, mesh.vertices.astype(np.float64)), mesh.faces)
        directions = _unseen_directions(seen)
        camera = seen[0].view.crop.intrinsics
        target = _cloud(true, camera, 0, seed)
        unit = float(np.cbrt(abs(np.linalg.det(seen[0].crop_from_mesh[:3, :3])))) * mesh.longest_side
        scores: dict[str, Scores] = {}
        for name, view, field, seconds in _made(generator, seen, error, seed):
            began = time.process_time()
            try:
                made = _placed_shape(field, view, seen[0], config)
            except InputError as failure:
                logger.info("%s, %s: %s", held_out.files[seen[0].mesh].path.name, name, failure)
                scores[name] = {"silhouette_iou": 0.0, "f_5": 0.0, "f_5_hidden": 0.0, "seconds": seconds}
                continue
            seconds += time.process_time() - began
            whole, hidden, _ = cloud_scores(_cloud(made, camera, 1, seed), target, IDENTITY, unit)
            scores[name] = {
                "silhouette_iou": _silhouette_iou(made, true, directions),
                "f_5": whole.f_5,
                **({} if hidden is None else {"f_5_hidden": hidden.f_5}),
                "seconds": seconds,
            }
        rows.append(Row(seed, held_out.files[seen[0].mesh].path.name, scores))
        logger.info("%d of %d: %s", len(rows), objects, rows[-1].mesh)
    return rows


def _shown(meshes: MeshFolder, objects: int) -> Iterator[tuple[int, list[View]]]:
    """Views of different meshes, all of them four."""
    done: set[int] = set()
    for seed in count():
        if len(done) == min(objects, len(meshes)):
            return
        try:
            seen = views(meshes, seed, max(COUNTS))
        except InputError as failure:
            logger.debug("object %d: %s", seed, failure)
            continue
        if len(seen) == max(COUNTS) and seen[0].mesh not in done:
            done.add(seen[0].mesh)
            yield seed, seen


def _made(
    generator: CompactGenerator, seen: Sequence[View], error: float, seed: int
) -> Iterator[tuple[str, ObjectView, Field, float]]:
    """Each way's name, the views it is refined on, its field in the first one's cube, and seconds of the processor."""
    sampler = replace(generator.settings.sampler, steps=1, guidance_strength=1.0)
    # Estimated once, so that all ways are given the same.
    whole = estimated(seen, error, np.random.default_rng(seed))

    def one(view: ObjectView) -> tuple[Field, float]:
        began = time.process_time()
        return generated(generator, view, cube_edge(view), SEED, sampler)[0], time.process_time() - began

    alone = [one(each.view) for each in whole.all]
    for views_given in COUNTS:
        view = replace(whole, others=whole.others[: views_given - 1])
        if views_given == 1:
            yield "1", view, *alone[0]
            continue
        yield str(views_given), view, *one(view)
        inside = np.stack([_in_first(each, field, view) for each, (field, _) in zip(view.all, alone, strict=False)])
        seconds = sum(spent for _, spent in alone[:views_given])
        yield f"{views_given}, mean", view, Field(inside.mean(axis=0)), seconds
        yield f"{views_given}, intersection", view, Field(inside.max(axis=0)), seconds


def _in_first(seen: OtherView, field: Field, first: ObjectView) -> Float32[np.ndarray, "r r r"]:
    """A field that was generated from `seen` alone, in the cube of the first view and in its edges."""
    edge, mine, size = cube_edge(first), cube_edge(seen.view), len(field.values)
    points = seen_cells(first, edge, size).points
    latent = transform(np.linalg.inv(metric_crop_from_latent(seen.view, mine)) @ seen.crop_from_main, points)
    places = ((latent + 0.5) * size - 0.5).T
    values = ndimage.map_coordinates(field.values, places, order=1, mode="nearest") * mine / edge
    return (
        np.where((np.abs(latent) < 0.5).all(axis=1), values, TRUNCATION).reshape(field.values.shape).astype(np.float32)
    )


def _placed_shape(field: Field, view: ObjectView, first: View, config: EmbeddedGeneratorConfig) -> Triangles:
    """The refined shape in metres; one view alone leaves its scale open, which is that of its nearest visible part."""
    shape = shape_of(field, view, cube_edge(view), config)
    scale = 1.0 if view.others else nearest_depth(first.view) / nearest_depth(view)
    return Triangles(shape.vertices.astype(np.float64) * scale, shape.faces)


def _unseen_directions(seen: Sequence[View]) -> Float[np.ndarray, "d 3"]:
    """Directions in the first crop's frame from which to look, far from those of all views."""
    main_from_mesh = seen[0].crop_from_mesh
    towards = []
    for each in seen:
        main_from_crop = main_from_mesh @ np.linalg.inv(each.crop_from_mesh)
        towards.append(-main_from_crop[:3, 2] / np.linalg.norm(main_from_crop[:3, 2]))
    steps = np.arange(CANDIDATES) + 0.5
    polar, turn = np.arccos(1 - 2 * steps / CANDIDATES), np.pi * (1 + np.sqrt(5)) * steps
    spread = np.stack([np.cos(turn) * np.sin(polar), np.sin(turn) * np.sin(polar), np.cos(polar)], axis=1)
    nearest = (spread @ np.array(towards).T).max(axis=1)
    return spread[np.argsort(nearest)[:DIRECTIONS]]


def _cloud(mesh: Triangles, camera: Intrinsics, role: int, seed: int) -> Cloud:
    """Samples of the outer surface; `role` keeps those of made and true meshes apart."""
    caster = RayCaster(mesh.vertices.astype(np.float32), mesh.faces)
    return cloud(mesh, POINTS, np.random.default_rng([SEED, role, seed]), caster, camera)


def _silhouette_iou(made: Triangles, true: Triangles, directions: Float[np.ndarray, "d 3"]) -> float:
    """Mean over the directions, of parallel rays."""
    middle = (true.vertices.min(axis=0) + true.vertices.max(axis=0)) / 2
    radius = 1.3 * float(np.linalg.norm(true.vertices - middle, axis=1).max())
    casters = [RayCaster(mesh.vertices.astype(np.float32), mesh.faces) for mesh in (made, true)]
    found = []
    for direction in directions:
        ours, theirs = (_silhouette(caster, middle, radius, direction) for caster in casters)
        found.append(intersection_over_union(ours, theirs))
    return float(np.mean(found))


def _silhouette(
    caster: RayCaster, middle: Float[np.ndarray, "3"], radius: float, towards: Float[np.ndarray, "3"]
) -> Bool[np.ndarray, "s s"]:
    across = np.linalg.svd(towards[None])[2][1:]
    axis = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    places = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2) @ across
    origins = middle + radius * (places + 2 * towards)
    hits = caster.cast(origins, np.broadcast_to(-towards, origins.shape))
    return (hits.triangle >= 0).reshape(SIDE, SIDE)


def table(rows: Sequence[Row]) -> str:
    """Means over the objects with their 95 % intervals, as Markdown."""
    lines = ["| views | " + " | ".join(METRICS.values()) + " |", "|---" * (1 + len(METRICS)) + "|"]
    for name in rows[0].scores:
        cells = []
        for metric in METRICS:
            values = [row.scores[name][metric] for row in rows if metric in row.scores[name]]
            around = bootstrap([[value] for value in values], RESAMPLES, SEED)
            bracketed = f" ({interval_text(around[0])})" if around else ""
            cells.append(f"{number_text(float(np.mean(values)))}{bracketed}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", f"{len(rows)} held-out meshes, four random views of each."])


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line, prints the table. Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--meshes", type=Path, required=True, help="folder of GLB files; the held-out ones are used")
    parser.add_argument("--weights", type=Path, default=GENERATOR, help="of the generator; by default the package's")
    parser.add_argument("--objects", type=int, default=20, help="number of meshes")
    parser.add_argument("--error", type=float, default=0.0, help="error of the depth, as a share of an object's width")
    parser.add_argument("--json", type=Path, help="file for the scores of each object")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(1)
    try:
        rows = run(meshes=chosen.meshes, weights=chosen.weights, objects=chosen.objects, error=chosen.error)
    except ScenegenError as error:
        logger.error("%s", error)
        return error.exit_code
    if chosen.json is not None:
        chosen.json.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")
    sys.stdout.write(table(rows) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
