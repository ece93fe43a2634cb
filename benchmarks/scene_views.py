"""What more photos of a scene are worth: scenes of several objects made from 1, 2 and 4 of them.

    python benchmarks/scene_views.py --scenes SCENES [--count N] [--known] [--out FOLDER] [--json FILE]

SCENES holds scenes with true meshes (the layout `scene` of `scenegen evaluate`). Their objects stand on a patterned floor and
are photographed anew by the project's own renderer: by the scene's camera, and from 20, 40 and 60 degrees further round. Each
scene is made with the true masks and cameras, and from the four photos also without the cameras, and with nothing given at all.
Depth is always estimated.

The result is compared with the truth in the frame of the first photo's camera, after one scale: the median of true over made
depth there. F-scores count what lies within 5 % of an object's size, the hidden part is what the first photo does not show.
Silhouettes are those of each object alone from four directions that no photo shares.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from scenegen.camera import GLTF_CAMERA_FROM_CAMERA, rays, transform
from scenegen.evaluate.alignment import Similarity
from scenegen.evaluate.metrics import f_score, hungarian
from scenegen.evaluate.sampling import Triangles, sample_surface, visible
from scenegen.export.glb import read_glb
from scenegen.export.manifest import read_manifest
from scenegen.geometry.mesh import joined
from scenegen.geometry.render import RayCaster
from scenegen.records import Intrinsics
from scenegen.scene.scoring import intersection_over_union
from scenegen.store.png import write_png
from scenegen.train.materials import horizontal, random_light, random_texture, wall
from scenegen.train.meshes import ColoredMesh, read_mesh
from scenegen.train.shading import Body, Exposure, Setting, developed, linear_from_srgb, trace
from scenegen.train.views import Camera, rendered

logger = logging.getLogger("scene_views")

TURNS = (0, 20, 40, 60)
"""Degrees round the scene from its own camera: the photos."""
UNSEEN = (120, 180, 240, -60)
RUNS: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
    "1 view": ((0,), ("masks", "camera")),
    "2 views": ((0, 2), ("masks", "camera")),
    "4 views": ((0, 1, 2, 3), ("masks", "camera")),
    "4 views, cameras found": ((0, 1, 2, 3), ("masks",)),
    "4 views, nothing given": ((0, 1, 2, 3), ()),
}
WIDTH, HEIGHT = 640, 480
LATTICE = 1024
"""Lattice points along the edge of a surface's noise."""
POINTS = 4000
NEAR = 0.05
EXPOSURE = Exposure(brightness=0.3, balance=np.ones(3), blur=0.4, noise=0.006, quality=0)


@dataclass(frozen=True, eq=False)
class Truth:
    """A scene and its photos."""

    meshes: dict[int, ColoredMesh]
    """World: Y up."""
    photos: tuple[Camera, ...]
    unseen: tuple[Camera, ...]
    ids: tuple[np.ndarray, ...]
    depth: np.ndarray
    """Of the first photo."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=Path, required=True)
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--known", action="store_true", help="only with the true masks and cameras")
    parser.add_argument("--out", type=Path, default=Path("out/scene_views"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    runs = {name: run for name, run in RUNS.items() if "camera" in run[1] or not options.known}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in runs}
    for folder in sorted(path for path in options.scenes.iterdir() if (path / "scene.json").is_file())[: options.count]:
        shots = options.out / folder.name
        truth = photographed(folder, shots)
        for name, (chosen, given) in runs.items():
            result = made(name, chosen, given, truth, shots)
            logger.info("%s, %s: %s", folder.name, name, json.dumps(result))
            found[name].append({"scene": folder.name, **result})
            if options.json:
                options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    columns = ("objects", "f_score", "hidden_f_score", "unseen_iou", "rotation_deg", "translation", "cpu_s")
    print("| photos | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for name, results in found.items():
        cells = []
        for column in columns:
            values = [result[column] for result in results if result.get(column) is not None]
            cells.append(f"{np.mean(values):.3g}" if values else "-")
        print(f"| {name} | " + " | ".join(cells) + " |")


def photographed(folder: Path, shots: Path) -> Truth:
    """Photos, masks and cameras of a scene's objects, written to `shots`."""
    scene = json.loads((folder / "scene.json").read_text())
    camera = json.loads((folder / "camera.json").read_text())
    meshes = {item["id"]: read_mesh(folder / item["mesh"]) for item in scene["objects"]}
    shrink = WIDTH / camera["width"]
    intrinsics = Intrinsics(
        width=WIDTH, height=HEIGHT, **{name: camera[name] * shrink for name in ("fx", "fy", "cx", "cy")}
    )
    first = np.linalg.inv(np.array(camera["camera_to_world"]))
    points = np.concatenate([mesh.vertices for mesh in meshes.values()])
    middle, size = (points.min(axis=0) + points.max(axis=0)) / 2, float(np.ptp(points, axis=0).max())
    rng = np.random.default_rng(0)
    floor = replace(random_texture(rng, size / 4), contrast=1.2, noise_period=size / 30)
    behind = replace(random_texture(rng, size), contrast=1.0, noise_period=size / 20)
    light = random_light(rng)
    beside = replace(random_texture(rng, size), contrast=1.0, noise_period=size / 20)
    floor, behind, beside = (replace(each, noise=_noise(rng)) for each in (floor, behind, beside))
    far = middle * [1, 0, 1] - 3 * size * np.array([0, 0, 1.0])
    bodies = [Body(mesh, np.eye(4), linear_from_srgb(mesh.colors), 0.1) for mesh in meshes.values()]
    surfaces = [
        horizontal(np.zeros(3), (np.inf, np.inf), 0.3, floor),
        wall(far, np.array([0, 0, 1.0]), behind),
        wall(middle * [1, 0, 1] - 3 * size * np.array([1.0, 0, 0]), np.array([1.0, 0, 0]), beside),
    ]
    setting = Setting(bodies, surfaces, light)
    cameras = {turn: Camera(intrinsics, first @ _round(middle, turn)) for turn in (*TURNS, *UNSEEN)}
    (shots / "masks").mkdir(parents=True, exist_ok=True)
    frames, ids = [], []
    for number, turn in enumerate(TURNS):
        eye = cameras[turn]
        light, _, depth = rendered(setting, eye, np.random.default_rng(number))
        centres = np.stack(np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5), axis=-1).reshape(-1, 2)
        owner = trace(setting, eye.centre, eye.world_rays(centres), eye.pixel).owner.reshape(HEIGHT, WIDTH)
        names = np.array([0, *meshes], np.uint16)
        ids.append(names[owner + 1])
        sky = ~np.isfinite(depth)
        light[sky] = setting.light.sky
        write_png(shots / f"v{number}.png", developed(light, EXPOSURE, np.random.default_rng(number)))
        write_png(shots / "masks" / f"v{number}.png", ids[-1])
        if number == 0:
            seen_depth = np.where(sky, 0, depth)
        pose = np.linalg.inv(eye.camera_from_world) @ GLTF_CAMERA_FROM_CAMERA
        frames.append({"file_path": f"v{number}.png", "transform_matrix": pose.tolist()})
    known = {"fl_x": intrinsics.fx, "fl_y": intrinsics.fy, "cx": intrinsics.cx, "cy": intrinsics.cy}
    document = {**known, "w": WIDTH, "h": HEIGHT, "frames": frames}
    (shots / "transforms.json").write_text(json.dumps(document))
    return Truth(
        meshes,
        tuple(cameras[turn] for turn in TURNS),
        tuple(cameras[turn] for turn in UNSEEN),
        tuple(ids),
        seen_depth,
    )


def _noise(rng: np.random.Generator) -> np.ndarray:
    """Of a surface whose pattern nowhere comes again in view: two places that look alike would be matched."""
    return rng.normal(0, 0.35, (LATTICE, LATTICE)).astype(np.float32)


def _round(middle: np.ndarray, degrees: float) -> np.ndarray:
    """world_from_world that turns the scene about the vertical through its middle, so that the camera goes round it."""
    turn = np.radians(degrees)
    matrix = np.eye(4)
    matrix[:3, :3] = [[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]]
    centre = middle * [1, 0, 1]
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre
    return matrix


def made(name: str, chosen: tuple[int, ...], given: tuple[str, ...], truth: Truth, shots: Path) -> dict[str, Any]:
    """Makes the scene, and measures it."""
    photos = [str(shots / f"v{number}.png") for number in chosen]
    folder = "".join(word[0] for word in name.split()) + str(len(given))
    words = ["views", *photos, "--name", folder] if len(chosen) > 1 else photos
    words += ["-o", str(shots / "out"), "-q"]
    if "masks" in given:
        words += ["--masks", str(shots / "masks" / "v0.png" if len(chosen) == 1 else shots / "masks")]
    words += ["--camera", str(shots / "transforms.json")] if "camera" in given else []
    before = _cpu_s()
    done = subprocess.run([sys.executable, "-m", "scenegen", *words], capture_output=True, text=True, check=False)
    spent = round(_cpu_s() - before, 1)
    if done.returncode not in (0, 6):
        return {"error": done.stderr.strip().splitlines()[-1], "cpu_s": spent}
    out = shots / "out" / (folder if len(chosen) > 1 else "v0")
    return {**measured(out, truth, chosen, "masks" in given), "cpu_s": spent}


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measured(out: Path, truth: Truth, chosen: tuple[int, ...], named: bool) -> dict[str, Any]:
    """Means over the true objects; one that is missing counts 0."""
    parts, manifest = read_glb(out / "scene.glb"), read_manifest(out)
    z = np.load(out / "depth.npy")
    objects = (truth.ids[0] > 0) & (z > 0)
    scale = float(np.median(truth.depth[objects] / z[objects]))
    stretch = np.diag([scale, scale, scale, 1.0])
    first = truth.photos[0]
    world_from_made = np.linalg.inv(first.camera_from_world) @ stretch @ np.linalg.inv(parts.world_from_camera)
    placed = {
        item.id: (transform(world_from_made @ part.world_from_part, part.mesh.vertices.astype(float)), part.mesh.faces)
        for part in parts.objects
        for item in manifest.objects
        if item.name == part.name
    }
    pairs = {number: number for number in truth.meshes if number in placed} if named else _paired(placed, truth)
    rng = np.random.default_rng(0)
    vertices, faces = joined(*zip(*((mesh.vertices, mesh.faces) for mesh in truth.meshes.values()), strict=True))
    caster = RayCaster(transform(first.camera_from_world, vertices.astype(float)), faces)
    scores: list[tuple[float, float, float]] = []
    for number, true in truth.meshes.items():
        points = sample_surface(Triangles(true.vertices.astype(float), true.faces), POINTS, rng).points
        if number not in pairs:
            scores.append((0.0, 0.0, 0.0))
            continue
        vertices, faces = placed[pairs[number]]
        near = NEAR * float(np.ptp(points, axis=0).max())
        found = sample_surface(Triangles(vertices, faces), POINTS, rng).points
        to_made, to_true = cKDTree(found).query(points)[0], cKDTree(points).query(found)[0]
        sees = [visible(transform(first.camera_from_world, each), caster, first.intrinsics) for each in (points, found)]
        hidden = f_score(to_made[~sees[0]], to_true[~sees[1]], near) if not (sees[0].all() or sees[1].all()) else 0.0
        silhouettes = [
            intersection_over_union(_covered(vertices, faces, eye), _covered(true.vertices, true.faces, eye))
            for eye in truth.unseen
        ]
        scores.append((f_score(to_made, to_true, near), hidden, float(np.mean(silhouettes))))
    mean = np.mean(scores, axis=0)
    rotations, translations = _camera_errors(parts, truth, chosen, scale)
    return {
        "objects": len(placed) / len(truth.meshes),
        "f_score": round(float(mean[0]), 4),
        "hidden_f_score": round(float(mean[1]), 4),
        "unseen_iou": round(float(mean[2]), 4),
        "rotation_deg": rotations,
        "translation": translations,
    }


def _paired(placed: dict[int, tuple[np.ndarray, np.ndarray]], truth: Truth) -> dict[int, int]:
    """The made object of each true one, by their silhouettes in the photos."""
    made, true = list(placed), list(truth.meshes)
    ious = np.zeros((len(made), len(true)))
    for eye in truth.photos:
        seen = [_covered(*placed[number], eye) for number in made]
        wanted = [_covered(truth.meshes[n].vertices, truth.meshes[n].faces, eye) for n in true]
        ious += [[intersection_over_union(a, b) / len(truth.photos) for b in wanted] for a in seen]
    return {true[column]: made[row] for row, column in hungarian(ious, 0.1)}


def _covered(vertices: np.ndarray, faces: np.ndarray, eye: Camera) -> np.ndarray:
    directions = rays(eye.intrinsics)[::4, ::4].reshape(-1, 3)
    caster = RayCaster(transform(eye.camera_from_world, vertices.astype(float)), faces)
    return caster.blocked(np.zeros_like(directions), directions)


def _camera_errors(
    parts: Any, truth: Truth, chosen: tuple[int, ...], scale: float
) -> tuple[float | None, float | None]:
    """Mean errors of the other cameras against the first: of the rotation in degrees, of the place as a share of the distance."""
    rotations, places = [], []
    for camera in parts.cameras:
        number = int(camera.photo.removeprefix("v"))
        found = np.linalg.inv(parts.world_from_camera) @ camera.world_from_camera
        true = truth.photos[0].camera_from_world @ np.linalg.inv(truth.photos[number].camera_from_world)
        rotations.append(Similarity(1.0, found[:3, :3].T @ true[:3, :3], np.zeros(3)).angle_deg)
        places.append(np.linalg.norm(scale * found[:3, 3] - true[:3, 3]) / np.linalg.norm(true[:3, 3]))
    if not rotations:
        return None, None
    return round(float(np.mean(rotations)), 3), round(float(np.mean(places)), 4)


if __name__ == "__main__":
    main()
