"""Camera poses from the photos alone: COLMAP's structure from motion, by the optional package `pycolmap`.

It runs in a child process with limits of its own, because native code may hang or crash on odd pictures.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Float64, UInt32

from scenegen.errors import CrashError, LimitError, TransientError
from scenegen.records import Intrinsics
from scenegen.system.limits import limit_process
from scenegen.system.processes import child_lifeline, end_with, ending
from scenegen.views.features import moving
from scenegen.weights_registry.needed import require_pycolmap

if TYPE_CHECKING:
    from scenegen.views.features import Matches

CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from scenegen.views.structure import answer
answer(int(sys.argv[2]), int(sys.argv[3]))
"""
SEED = 0
STARTS = (1.0, 1.5)
"""Where the refinement of a focal length that is not known begins, over its estimate: one that begins too short may stay there,
with cameras that explain few of the points."""
MIN_INLIERS = 25
"""Matches that a pair of photos must have to begin with, and half of it what a further photo must see."""
MIN_ANGLE_DEG = 3.0
"""Least angle between the rays to a point in the first two photos."""
SHARPER, KEPT = 0.7, 0.9
"""Photos are of several zooms if a focal length for each brings the mean reprojection error below this share of what one for
all leaves, and keeps this share of the points. Of one zoom, it leaves at least 0.95 of the error."""


@dataclass(frozen=True)
class Picture:
    """A photo for the child."""

    name: str
    """Of its file in the folder."""
    intrinsics: dict[str, Any]
    known: bool
    """Whether its focal length is measured or given; otherwise it is refined."""


@dataclass(frozen=True, eq=False)
class Pose:
    """Where a photo was taken from, in a frame and unit of no meaning."""

    world_from_camera: Float64[np.ndarray, "4 4"]
    """Rigid, OpenCV axes."""
    focal: float
    """Pixels."""


def structure_from_motion(
    folder: Path,
    names: Sequence[str],
    cameras: Sequence[Intrinsics],
    known: Sequence[bool],
    timeout_s: float,
    matches: Sequence[Matches] | None = None,
) -> dict[int, Pose]:
    """The poses of the photos that belong together, by their index; those that do not are missing.

    Photos of equal intrinsics are taken for those of one camera, unless a focal length for each explains them much better.

    Args:
        folder: of the pictures; it also gets the child's files.
        names: of the pictures.
        cameras: their intrinsics, as far as they are known.
        known: which focal lengths are measured or given; the others are refined.
        timeout_s: how long it may take.
        matches: points that two of the photos share; without them COLMAP finds its own.

    Raises:
        WeightsError: if `pycolmap` is not installed.
        LimitError: if it takes longer.
        CrashError: if its process is lost.
        TransientError: if no process can be started.
    """
    require_pycolmap()
    pictures = [
        asdict(Picture(name, camera.model_dump(), sure))
        for name, camera, sure in zip(names, cameras, known, strict=True)
    ]
    given = (
        None if matches is None else [[each.first, each.second, np.hstack(each.pixels).tolist()] for each in matches]
    )
    request = {"folder": str(folder), "pictures": pictures, "matches": given}
    found = _colmap_child(json.dumps(request), len(names), timeout_s)
    return {
        int(index): Pose(np.array(pose["world_from_camera"], np.float64), float(pose["focal"]))
        for index, pose in found.items()
    }


def _colmap_child(request: str, count: int, timeout_s: float) -> dict[str, Any]:
    command = [sys.executable, "-P", "-c", CHILD, str(Path(__file__).parents[2])]
    cpu_s = int(timeout_s * (os.cpu_count() or 1)) + 1
    try:
        with child_lifeline() as (lifeline, options):
            child = subprocess.run(
                [*command, str(lifeline), str(cpu_s)],
                input=request.encode(),
                capture_output=True,
                timeout=timeout_s,
                check=False,
                **options,
            )
    except subprocess.TimeoutExpired as error:
        raise LimitError(
            f"finding the cameras of {count} photos took more than {timeout_s:g} s; give fewer photos, raise "
            "views.timeout_s, or give the cameras with --camera."
        ) from error
    except OSError as error:
        raise TransientError(
            f"cannot start a process to find cameras: {error.strerror}; free memory or stop other processes."
        ) from error
    if child.returncode:
        reason = (child.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise CrashError(f"pycolmap ended with {ending(child.returncode)} ({reason}); give the cameras with --camera.")
    found: dict[str, Any] = json.loads(child.stdout)
    return found


def answer(lifeline: int, cpu_s: int) -> None:
    """The child process's work: from a request on stdin to poses by index on stdout, both in JSON."""
    end_with(lifeline)
    limit_process(cpu_s)
    # Native code must not print into the answer.
    stdout = os.dup(1)
    os.dup2(2, 1)
    request = json.load(sys.stdin)
    pictures = [Picture(**picture) for picture in request["pictures"]]
    found = run_colmap(Path(request["folder"]), pictures, request["matches"])
    with os.fdopen(stdout, "w", encoding="utf-8") as pipe:
        json.dump(found, pipe)


def run_colmap(
    folder: Path, pictures: Sequence[Picture], matches: Sequence[tuple[int, int, Any]] | None = None
) -> dict[int, dict[str, Any]]:
    """Pose and focal length of the photos of the largest reconstruction, by index, in this process.

    One thread and fixed seeds give the same answer every time.

    Args:
        folder: of the pictures.
        pictures: the photos.
        matches: two photos each, and the pixels of their points, four numbers a row; without them COLMAP finds its own.
    """
    import pycolmap

    pycolmap.set_random_seed(SEED)
    features = _own_features(folder, pictures) if matches is None else _given_features(matches)
    groups = _groups(pictures)
    best = _best_model(folder, pictures, groups, features)
    if any(len(group) > 1 and not pictures[group[0]].known for group in groups):
        alone = [[index] for index in range(len(pictures))]
        zoomed = _best_model(folder, pictures, alone, features)
        if zoomed is not None and (best is None or _explains_better(zoomed, best)):
            best = zoomed
    if best is None:
        return {}
    index_of = {picture.name: index for index, picture in enumerate(pictures)}
    found = {}
    for number in best.reg_image_ids():
        image = best.image(number)
        pose = np.vstack([image.cam_from_world().inverse().matrix(), [0, 0, 0, 1]])
        focal = float(best.camera(image.camera_id).mean_focal_length())
        found[index_of[image.name]] = {"world_from_camera": pose.tolist(), "focal": focal}
    return found


@dataclass(frozen=True, eq=False)
class Features:
    """Points of photos, and which of them look alike."""

    pixels: dict[int, Float32[np.ndarray, "_n c"]]
    """Of each photo: column, row, and whatever else its finder says."""
    pairs: dict[tuple[int, int], UInt32[np.ndarray, "_m 2"]]
    """Of two photos, the numbers of their points."""


def _groups(pictures: Sequence[Picture]) -> list[list[int]]:
    """The photos of one camera: those of equal intrinsics."""
    cameras: dict[str, list[int]] = {}
    for index, picture in enumerate(pictures):
        cameras.setdefault(json.dumps([picture.intrinsics, picture.known], sort_keys=True), []).append(index)
    return [*cameras.values()]


def _explains_better(zoomed: Any, shared: Any) -> bool:
    """Whether a focal length for each photo explains so much more than one for all that the photos are of several zooms."""
    if zoomed.num_reg_images() != shared.num_reg_images():
        return bool(zoomed.num_reg_images() > shared.num_reg_images())
    return bool(
        zoomed.num_points3D() >= KEPT * shared.num_points3D()
        and zoomed.compute_mean_reprojection_error() < SHARPER * shared.compute_mean_reprojection_error()
    )


def _best_model(
    folder: Path, pictures: Sequence[Picture], groups: Sequence[Sequence[int]], features: Features
) -> Any | None:
    """The reconstruction of most photos and points, if those of a group have one camera."""
    starts = (1.0,) if all(picture.known for picture in pictures) else STARTS
    models = [model for start in starts for model in _mapped(folder, pictures, groups, features, start)]
    return max(models, key=lambda model: (model.num_reg_images(), model.num_points3D()), default=None)


def _own_features(folder: Path, pictures: Sequence[Picture]) -> Features:
    """COLMAP's features of the pictures, and which of those that do not stand still look alike."""
    import pycolmap

    sift = pycolmap.FeatureExtractionOptions()
    sift.num_threads = 1
    database = folder / "features.db"
    pycolmap.Database.open(database).close()
    names = [picture.name for picture in pictures]
    pycolmap.extract_features(database, folder, names, pycolmap.CameraMode.PER_IMAGE, extraction_options=sift)
    matching = pycolmap.FeatureMatchingOptions()
    matching.num_threads, matching.skip_geometric_verification = 1, True
    pycolmap.match_exhaustive(database, matching_options=matching)
    opened = pycolmap.Database.open(database)
    ids = [opened.read_image_with_name(name).image_id for name in names]
    pixels = {index: opened.read_keypoints(number) for index, number in enumerate(ids)}
    pairs = list(itertools.combinations(range(len(pictures)), 2))
    rows = [opened.read_matches(ids[a], ids[b]) for a, b in pairs]
    opened.close()
    places = [
        (pixels[a][each[:, 0], :2].astype(np.float64), pixels[b][each[:, 1], :2].astype(np.float64))
        for (a, b), each in zip(pairs, rows, strict=True)
    ]
    kept = [each[moves] for each, moves in zip(rows, moving(places), strict=True)]
    return Features(pixels, dict(zip(pairs, kept, strict=True)))


def _given_features(matches: Sequence[tuple[int, int, Any]]) -> Features:
    """The points of matches: two photos each, and four numbers a row."""
    points: dict[int, list[np.ndarray]] = {}
    for first, second, pixels in matches:
        both = np.reshape(pixels, (-1, 4)).astype(np.float32)
        points.setdefault(first, []).append(both[:, :2])
        points.setdefault(second, []).append(both[:, 2:])
    unique = {index: np.unique(np.concatenate(each), axis=0, return_inverse=True) for index, each in points.items()}
    used = dict.fromkeys(points, 0)
    pairs = {}
    for first, second, pixels in matches:
        sides = []
        for index in (first, second):
            sides.append(unique[index][1].ravel()[used[index] : used[index] + len(pixels)])
            used[index] += len(pixels)
        pairs[first, second] = np.column_stack(sides).astype(np.uint32)
    return Features({index: each for index, (each, _) in unique.items()}, pairs)


def _mapped(
    folder: Path, pictures: Sequence[Picture], groups: Sequence[Sequence[int]], features: Features, start: float
) -> list[Any]:
    """The reconstructions, if focal lengths that are not known begin at `start` times their estimate.

    Args:
        folder: of the pictures.
        pictures: the photos.
        groups: those of one camera.
        features: theirs.
        start: the factor.
    """
    import pycolmap

    database = folder / "colmap.db"
    database.unlink(missing_ok=True)
    pycolmap.Database.open(database).close()
    for group in groups:
        camera = Intrinsics.model_validate(pictures[group[0]].intrinsics)
        focal = (camera.fx + camera.fy) / 2 * (1.0 if pictures[group[0]].known else start)  # pixels are square
        reader = pycolmap.ImageReaderOptions()
        reader.camera_model = "SIMPLE_PINHOLE"
        reader.camera_params = f"{focal},{camera.cx},{camera.cy}"
        names = [pictures[index].name for index in group]
        pycolmap.import_images(database, folder, pycolmap.CameraMode.SINGLE, names, reader)
    opened = pycolmap.Database.open(database)
    ids = [opened.read_image_with_name(picture.name).image_id for picture in pictures]
    for index, pixels in features.pixels.items():
        opened.write_keypoints(ids[index], pixels)
    for (a, b), rows in features.pairs.items():
        opened.write_matches(ids[a], ids[b], rows)
    opened.close()
    verifier = pycolmap.GeometricVerifierOptions()
    verifier.num_threads = 1
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = SEED
    pycolmap.geometric_verification(database, verifier, two_view_geometry_options=verification)
    options = pycolmap.IncrementalPipelineOptions()
    options.multiple_models = False
    options.min_model_size = 2
    options.num_threads, options.random_seed = 1, SEED
    options.extract_colors = False
    options.ba_refine_focal_length = not all(picture.known for picture in pictures)
    options.mapper.init_min_num_inliers = MIN_INLIERS
    options.mapper.init_min_tri_angle = MIN_ANGLE_DEG
    options.mapper.abs_pose_min_num_inliers = MIN_INLIERS // 2
    options.mapper.abs_pose_refine_focal_length = options.ba_refine_focal_length
    options.triangulation.ignore_two_view_tracks = False
    return [*pycolmap.incremental_mapping(database, folder, folder, options).values()]
