"""The paper's claim, measured: back-projection against cross-attention to image tokens only, all else equal.

    python benchmarks/claim.py --meshes MESHES --cache CACHE --out FOLDER --steps N [--samples N] [--views N] [--threads N]
        [--only back-projection|cross-attention]

Trains the two generators of `scenegen.train.twins` for the same number of steps on the same samples in the same order, with
the same noise, and compares what they make of views of meshes that neither has seen. A run that was stopped goes on at its
last checkpoint. With `--only` one is trained and nothing compared, so that two processes can train them side by side. FOLDER
gets `claim.json` and `claim.md`; `docs/claim.md` says what is compared and why that is fair.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from scenegen.camera import rays, transform
from scenegen.errors import InputError, ScenegenError, UsageError
from scenegen.evaluate.alignment import IDENTITY
from scenegen.evaluate.compare import paired_difference
from scenegen.evaluate.measure import Cloud, cloud, cloud_scores
from scenegen.evaluate.metrics import bootstrap, normal_error_deg
from scenegen.evaluate.sampling import Triangles
from scenegen.evaluate.summary import interval_text, number_text
from scenegen.geometry.field import Field, cube_edge, metric_crop_from_latent, placed, surface
from scenegen.geometry.render import RayCaster
from scenegen.pixal3d.compact import IMAGE_SIZE, CompactSettings, Evidence, evidence
from scenegen.records import Intrinsics
from scenegen.scene.scoring import intersection_over_union
from scenegen.train.generator import Training, imagenet_trunk
from scenegen.train.meshes import MeshFolder, mesh_folder
from scenegen.train.samples import SHARD, load_samples, parted, prepare, prepared
from scenegen.train.twins import SETTINGS, TWINS, Conditioning, Twin, train_twin
from scenegen.train.views import View, view

logger = logging.getLogger("claim")

POINTS = 5000
"""Query samples of a surface; there are twice as many to be nearest to."""
RESAMPLES = 10_000
SEED = 0
"""Of weights, order, noise and times of the training, of the noise a shape is drawn from, and of the bootstrap."""
METRICS = {
    "silhouette_iou": "silhouette IoU",
    "normal_error_deg": "normal error, degrees",
    "chamfer": "Chamfer, share of the longest side",
    "f_5": "F-score at 5 %",
    "f_5_hidden": "F-score at 5 %, hidden part",
}
Scores = dict[str, float | None]


@dataclass(frozen=True)
class Plan:
    """What both twins are given, and is not to change between the runs that train them."""

    steps: int
    samples: int
    batch: int
    seed: int


@dataclass(frozen=True)
class Row:
    """What the twins made of one view."""

    seed: int
    mesh: str
    """Its file's name."""
    scores: dict[Conditioning, Scores]


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval, percentile bootstrap over meshes; None if there is only one."""

    mean: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Compared:
    """One metric over the views for which both twins have it."""

    views: int
    meshes: int
    twins: dict[Conditioning, Estimate]
    difference: Estimate
    """Second of `TWINS` minus first."""


@dataclass(frozen=True)
class Facts:
    """About one twin."""

    parameters: int
    """Trained ones."""
    operations: int
    """Of one forward over one object."""
    minutes: float
    """Of training."""
    nothing_made: int
    """Views."""


@dataclass(frozen=True)
class Claim:
    """What `claim.json` holds."""

    plan: Plan
    learned_meshes: int
    held_out_meshes: int
    facts: dict[Conditioning, Facts]
    metrics: dict[str, Compared]
    rows: list[Row]


@dataclass(frozen=True)
class Shown:
    """A view to be judged by."""

    seed: int
    view: View
    mesh: Triangles
    """The true object, in the crop camera's frame in metres."""
    unit: float
    """Longest side of the true object's box in its own frame, metres."""


@dataclass(frozen=True, eq=False)
class Rendered:
    """A shape as the crop camera sees it: all of it, whatever stands before it."""

    silhouette: np.ndarray
    """[n] bool, the pixels row by row."""
    normals: np.ndarray
    """[n, 3], unit; 0 outside the silhouette."""


def run(
    *,
    meshes: Path,
    cache: Path,
    out: Path,
    steps: int,
    samples: int = 4096,
    views: int = 200,
    batch: int = 8,
    only: Conditioning | None = None,
    trunk: nn.Module | None = None,
    settings: CompactSettings = SETTINGS,
    processes: int = 1,
) -> str | None:
    """Trains what is not trained yet and compares.

    Args:
        meshes: a folder of GLB files.
        cache: of the samples, as `scenegen.train generator` has it.
        out: for checkpoints and results.
        steps: optimiser steps of each twin.
        samples: to learn from, rounded up to whole files of the cache.
        views: of held-out meshes, to compare by.
        batch: samples a step.
        only: the one twin to train; nothing is compared.
        trunk: the image trunk; None for the one with ImageNet weights.
        settings: sizes of the twins.
        processes: that prepare samples.

    Returns:
        The table; None with `only`.

    Raises:
        UsageError: if `out` belongs to another training.
    """
    learned, held_out = parted(mesh_folder(meshes))
    plan = Plan(steps, samples, batch, SEED)
    _check_plan(out, plan)
    prepare(learned, cache / "learned", samples, settings, processes)
    data = load_samples(prepared(cache / "learned")[: -(-samples // SHARD)], visibility=False)
    trunk = imagenet_trunk() if trunk is None else trunk
    trained = {
        conditioning: train_twin(
            trunk,
            conditioning,
            data,
            out / f"{conditioning}.pt",
            steps=steps,
            settings=settings,
            batch=batch,
            seed=SEED,
        )
        for conditioning in TWINS
        if only in (None, conditioning)
    }
    for conditioning, training in trained.items():
        logger.info("%s: %d steps in %.1f minutes", conditioning, training.step, training.minutes)
    if only is not None:
        return None
    del data
    rows = measured(trained, held_out, views, settings)
    claim = Claim(
        plan=plan,
        learned_meshes=len(learned),
        held_out_meshes=len(held_out),
        facts={
            conditioning: Facts(
                parameters=sum(value.numel() for value in training.learned.values()),
                operations=operations(training.generator),
                minutes=training.minutes,
                nothing_made=sum(row.scores[conditioning]["chamfer"] is None for row in rows),
            )
            for conditioning, training in trained.items()
        },
        metrics=summary(rows),
        rows=rows,
    )
    text = table(claim)
    _write(out / "claim.json", json.dumps(asdict(claim), indent=1))
    _write(out / "claim.md", text)
    return text


def shown_views(meshes: MeshFolder, wanted: int) -> Iterator[Shown]:
    """The first `wanted` views that show something, exact depth and mask."""
    made = 0
    for seed in count():
        if made == wanted:
            return
        try:
            seen = view(meshes, seed)
            cube_edge(seen.view)
        except InputError as error:
            logger.debug("view %d: %s", seed, error)
            continue
        made += 1
        mesh = meshes[seen.mesh]
        scale = float(np.cbrt(abs(np.linalg.det(seen.crop_from_mesh[:3, :3]))))
        vertices = transform(seen.crop_from_mesh, mesh.vertices.astype(np.float64))
        yield Shown(seed, seen, Triangles(vertices, mesh.faces), scale * mesh.longest_side)


def measured(
    trained: Mapping[Conditioning, Training[Twin]], meshes: MeshFolder, views: int, settings: CompactSettings
) -> list[Row]:
    """What both twins, with their averaged weights, make of each view: one row a view."""
    rows: list[Row] = []
    with ExitStack() as judged:
        twins = {conditioning: judged.enter_context(training.judged()) for conditioning, training in trained.items()}
        for shown in shown_views(meshes, views):
            edge = cube_edge(shown.view.view)
            camera = shown.view.view.crop.intrinsics
            true = _cloud(shown.mesh, camera, role=0, seed=shown.seed)
            picture = rendered(shown.mesh, camera)
            found: dict[Conditioning, Scores] = {}
            known = evidence(shown.view.view, edge, settings)
            for conditioning, twin in twins.items():
                mesh = made_mesh(twin.generate(known, SEED), metric_crop_from_latent(shown.view.view, edge))
                found[conditioning] = scores(mesh, true, picture, shown.unit, camera, shown.seed)
            rows.append(Row(shown.seed, meshes.files[shown.view.mesh].path.name, found))
            if len(rows) % 20 == 0:
                logger.info("%d of %d views", len(rows), views)
    return rows


def made_mesh(field: Field, crop_from_latent: np.ndarray) -> Triangles | None:
    """The field's surface in the crop camera's frame, as it is: nothing is fitted to the photo. None if there is none."""
    try:
        vertices, faces = surface(field)
    except InputError:
        return None
    return Triangles(placed(vertices, crop_from_latent).astype(np.float64), faces)


def scores(
    made: Triangles | None, true: Cloud, picture: Rendered, unit: float, camera: Intrinsics, seed: int
) -> Scores:
    """One made shape against the true one; where nothing is made, IoU and F-scores are 0 and the others None."""
    hidden_none = true.hidden_tree is None or not true.hidden.any()
    if made is None:
        nothing = None if hidden_none else 0.0
        return {"silhouette_iou": 0.0, "normal_error_deg": None, "chamfer": None, "f_5": 0.0, "f_5_hidden": nothing}
    ours = rendered(made, camera)
    both = ours.silhouette & picture.silhouette
    whole, hidden, _ = cloud_scores(_cloud(made, camera, role=1, seed=seed), true, IDENTITY, unit)
    return {
        "silhouette_iou": intersection_over_union(ours.silhouette, picture.silhouette),
        "normal_error_deg": normal_error_deg(ours.normals[both], picture.normals[both]) if both.any() else None,
        "chamfer": whole.chamfer_mean,
        "f_5": whole.f_5,
        "f_5_hidden": None if hidden is None else hidden.f_5,
    }


def rendered(mesh: Triangles, camera: Intrinsics) -> Rendered:
    """The mesh alone, through the centres of the pixels."""
    directions = rays(camera).reshape(-1, 3)
    hits = RayCaster(mesh.vertices, mesh.faces).cast(np.zeros_like(directions), directions)
    hit = hits.triangle >= 0
    corners = mesh.vertices[mesh.faces[hits.triangle[hit]]]
    crossed = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(directions)
    normals[hit] = crossed / np.maximum(np.linalg.norm(crossed, axis=1, keepdims=True), 1e-30)
    return Rendered(hit, normals)


def _cloud(mesh: Triangles, camera: Intrinsics, role: int, seed: int) -> Cloud:
    """Samples of the outer surface; `role` keeps those of made and true meshes apart."""
    rng = np.random.default_rng([SEED, role, seed])
    return cloud(mesh, POINTS, rng, RayCaster(mesh.vertices, mesh.faces), camera)


def operations(twin: Twin) -> int:
    """Floating-point operations of the matrix products of one forward over one object, trunk included."""
    sizes = twin.settings
    shapes = ((sizes.tokens, "centres"), (sizes.tokens * sizes.colour_patch, "parts"))
    places = {name: torch.zeros(1, 1, side**3, 2) for side, name in shapes}
    known = Evidence(
        image=torch.zeros(1, 1, 3, IMAGE_SIZE, IMAGE_SIZE),
        shares=torch.ones(1, 1, sizes.tokens**3),
        visibility=torch.zeros(1, *3 * (sizes.cells,), 7),
        scalars=torch.zeros(1, twin.scalars.in_features),
        **places,
    )
    latent = torch.zeros(1, sizes.latent_channels, *3 * (sizes.tokens,))
    # The plain formula is counted, the fused kernels of the CPU are not.
    with torch.no_grad(), FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        twin.loss(known, latent, torch.full((1,), 0.5), latent, torch.ones(1))
    return int(counter.get_total_flops())


def summary(rows: Sequence[Row]) -> dict[str, Compared]:
    """Each metric; whole meshes are drawn together, since views of one mesh are not independent."""
    found: dict[str, Compared] = {}
    for metric in METRICS:
        groups: dict[str, list[tuple[float, float]]] = {}
        for row in rows:
            first, second = (row.scores[conditioning][metric] for conditioning in TWINS)
            if first is not None and second is not None:
                groups.setdefault(row.mesh, []).append((first, second))
        if not groups:
            continue
        pairs = list(groups.values())
        paired = paired_difference(pairs, RESAMPLES, SEED)
        drawn = [bootstrap([[pair[k] for pair in of] for of in pairs], RESAMPLES, SEED) for k in range(len(TWINS))]
        intervals = [None if found_here is None else found_here[0] for found_here in drawn]
        found[metric] = Compared(
            views=paired.count,
            meshes=len(pairs),
            twins={
                conditioning: Estimate(mean, interval)
                for conditioning, mean, interval in zip(TWINS, (paired.first, paired.second), intervals, strict=True)
            },
            difference=Estimate(paired.difference, paired.difference_interval),
        )
    return found


def table(claim: Claim) -> str:
    """The markdown table, and below it what it was measured on."""
    first, second = TWINS
    lines = [f"| | {first} only | {second} | paired difference |", "|---|---|---|---|"]
    for metric, found in claim.metrics.items():
        cells = [f"{number_text(one.mean)} ({interval_text(one.interval)})" for one in found.twins.values()]
        interval = found.difference.interval
        within = "-" if interval is None else f"{interval[0]:+.3f} to {interval[1]:+.3f}"
        lines.append(f"| {METRICS[metric]} | {' | '.join(cells)} | {found.difference.mean:+.3f} ({within}) |")
    facts = [claim.facts[conditioning] for conditioning in TWINS]
    for heading, values in (
        ("trained weights", [f"{of.parameters:,}" for of in facts]),
        ("operations of a forward", [f"{of.operations / 1e9:.3f} GFLOP" for of in facts]),
        ("minutes of training", [f"{of.minutes:.0f}" for of in facts]),
        ("views of which nothing was made", [f"{of.nothing_made} of {len(claim.rows)}" for of in facts]),
    ):
        lines.append(f"| {heading} | {' | '.join(values)} | |")
    plan, judged = claim.plan, len({row.mesh for row in claim.rows})
    notes = (
        f"{plan.steps} steps of {plan.batch} on {plan.samples} samples of {claim.learned_meshes} meshes; {len(claim.rows)} "
        f"views of {judged} held-out meshes. Means, in brackets 95 % intervals (percentile bootstrap over meshes). Normal "
        "error and Chamfer are over the views of which both made something."
    )
    return "\n".join([*lines, "", notes, ""])


def _check_plan(out: Path, plan: Plan) -> None:
    """Both twins, and every run that goes on, must follow one plan."""
    path = out / "plan.json"
    if not path.is_file():
        out.mkdir(parents=True, exist_ok=True)
        _write(path, json.dumps(asdict(plan)))
    begun = Plan(**json.loads(path.read_text()))
    if begun != plan:
        raise UsageError(
            f"`out` {out} was begun with {begun}, but the plan is {plan}; give another folder or that plan."
        )


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    whole = path.with_suffix(f".{os.getpid()}.tmp")
    whole.write_text(text)
    whole.replace(path)


def main() -> int:
    """Trains and compares. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--meshes", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--samples", type=int, default=4096)
    parser.add_argument("--views", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=TWINS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(options.threads)
    try:
        text = run(
            meshes=options.meshes,
            cache=options.cache,
            out=options.out,
            steps=options.steps,
            samples=options.samples,
            views=options.views,
            only=options.only,
            processes=options.threads,
        )
    except ScenegenError as error:
        logger.error("%s", error)
        return error.exit_code
    if text is not None:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
