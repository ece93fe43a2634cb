from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation
from solids import box, textured
from true_scenes import CAMERA, in_camera, solids, true_objects, world_from_camera

from scenegen.camera import intrinsics_from_fov
from scenegen.evaluate.alignment import IDENTITY, Similarity
from scenegen.evaluate.ground_truth import TrueScene
from scenegen.evaluate.measure import (
    Cloud,
    MadeScene,
    cloud,
    cloud_scores,
    measure_perception,
    measure_scene,
    nothing_made,
    nothing_seen,
)
from scenegen.evaluate.record import EvaluateSettings
from scenegen.evaluate.sampling import Triangles
from scenegen.geometry.render import RayCaster, render

FAR = intrinsics_from_fov(400, 400, 20)
SETTINGS = EvaluateSettings(samples=2000)


def ball(radius: float, distance: float = 20.0) -> Triangles:
    mesh = trimesh.creation.icosphere(subdivisions=5, radius=radius)
    return Triangles(np.asarray(mesh.vertices) + np.array([0, 0, distance]), np.asarray(mesh.faces))


def sampled(mesh: Triangles, seed: int = 0) -> Cloud:
    caster = RayCaster(mesh.vertices, mesh.faces.astype(np.int32))
    return cloud(mesh, 6000, np.random.default_rng(seed), caster, FAR)


def true_scene() -> TrueScene:
    meshes = in_camera(solids())
    order = sorted(meshes)
    picture = render([textured(meshes[i]) for i in order], CAMERA)
    ids = np.array([*order, 0])[picture.ids]
    amodal = {i: render([textured(meshes[i])], CAMERA).ids >= 0 for i in order}
    return TrueScene(true_objects(), meshes, CAMERA, world_from_camera(), ids, picture.depth, amodal)


def made_scene(true: TrueScene, moved: Similarity = IDENTITY) -> MadeScene:
    """The true meshes themselves, moved."""
    meshes = {i: textured(Triangles(moved.apply(mesh.vertices), mesh.faces)) for i, mesh in true.meshes.items()}
    return MadeScene(meshes, dict.fromkeys(meshes, 0), true.ids, true.camera)


def test_concentric_spheres_are_the_difference_of_their_radii_apart() -> None:
    whole, hidden, angle = cloud_scores(sampled(ball(1.1)), sampled(ball(1.0), seed=1), IDENTITY, unit=2.0)
    assert whole.completeness == pytest.approx(0.05, rel=0.05)
    assert whole.accuracy == pytest.approx(0.05, rel=0.05)
    assert whole.chamfer_sum == pytest.approx(2 * (whole.chamfer_mean or 0))
    assert whole.f_2 == 0
    assert hidden is not None
    assert hidden.chamfer_mean == pytest.approx(0.05, rel=0.05)
    assert angle < 3


def test_a_similarity_undoes_a_scale() -> None:
    about = np.array([0, 0, 20.0])
    grown = Similarity(1 / 1.1, np.eye(3), about - about / 1.1)
    whole, _, _ = cloud_scores(sampled(ball(1.1)), sampled(ball(1.0), seed=1), grown, unit=2.0)
    assert whole.chamfer_mean == pytest.approx(0, abs=0.01)
    assert whole.f_2 > 0.99


def test_chamfer_of_shifted_cubes() -> None:
    # Unit cubes, shifted by d along one axis. Of a cube's six faces, one lies d outside the other cube; one lies inside,
    # d from a face of its own kind or nearer to a side: the mean of min(d, t) over a unit square, t the distance from
    # its edge; four overlap but for strips of width d, d / 2 away on average. The same the other way.
    d = 0.1
    first, second = box((0, 0, 20), (1, 1, 1)), box((0, 0, 20 + d), (1, 1, 1))
    whole, _, _ = cloud_scores(sampled(first), sampled(second, seed=1), IDENTITY, unit=1.0)
    inside = (1 - (1 - 2 * d) ** 3) / 6
    # Where the surfaces coincide, the nearest of n random points an area is 0.5 / sqrt(n) away on average.
    spacing = 0.5 / np.sqrt(2 * 6000 / 6)
    assert whole.chamfer_mean == pytest.approx((d + inside + 2 * d**2 + 4 * spacing) / 6, abs=0.001)
    # Within 0.05 lie half of the strips, and of the inner face the rim of that width.
    assert whole.f_5 == pytest.approx((4 * (1 - d / 2) + 1 - 0.9**2) / 6, abs=0.01)


def test_the_hidden_part_of_a_sphere_is_what_lies_behind_its_horizon() -> None:
    distance = 8.0
    mesh = ball(1.0, distance)
    caster = RayCaster(mesh.vertices, mesh.faces.astype(np.int32))
    drawn = cloud(mesh, 6000, np.random.default_rng(0), caster, FAR)
    assert drawn.hidden.mean() == pytest.approx((1 + 1 / distance) / 2, abs=0.02)
    assert drawn.queries.points[drawn.hidden, 2].min() > distance - 1 / distance - 0.05


def test_the_hidden_half_is_judged_by_itself() -> None:
    true = ball(1.0)
    bulged = true.vertices - (0, 0, 20)
    bulged[bulged[:, 2] > 0, 2] *= 2  # only what the camera does not see
    made = Triangles(bulged + np.array([0, 0, 20]), true.faces)
    whole, hidden, _ = cloud_scores(sampled(made), sampled(true, seed=1), IDENTITY, unit=2.0)
    assert hidden is not None
    assert (hidden.chamfer_mean or 0) > 1.5 * (whole.chamfer_mean or 0)
    assert hidden.f_5 < whole.f_5


def test_the_truth_measures_as_perfect() -> None:
    true = true_scene()
    scores = measure_scene(made_scene(true), true, SETTINGS)
    assert [item.matched for item in scores.objects] == [1, 2, 3]
    for item in scores.objects:
        assert item.silhouette_iou == pytest.approx(1)
        assert item.silhouette_iou_amodal == pytest.approx(1)
        assert item.raw.box_iou == pytest.approx(1, abs=1e-5)
        assert item.raw.whole.f_5 > 0.998
        assert (item.raw.whole.chamfer_mean or 1) < 0.02
        assert item.raw.hidden is not None
        assert item.raw.hidden.f_5 > 0.97
        assert item.raw.volume_error == pytest.approx(0, abs=1e-4)
    assert scores.raw.box_iou == pytest.approx(1, abs=1e-5)
    assert scores.penetration.volume_m3 == pytest.approx(0, abs=1e-9)
    assert (scores.supports.precision, scores.supports.recall) == (1, 1)


def test_the_alignment_finds_a_known_similarity() -> None:
    true = true_scene()
    # A scale about the camera and a small turn about its axis: every object stays in its mask.
    turn = Rotation.from_rotvec([0, 0, np.radians(0.5)]).as_matrix()
    scores = measure_scene(made_scene(true, Similarity(1.3, turn, np.zeros(3))), true, SETTINGS)
    assert scores.alignment is not None
    assert scores.alignment.scale == pytest.approx(1 / 1.3, rel=5e-3)
    assert scores.raw.whole.f_5 < 0.3
    assert scores.aligned.whole.f_5 > 0.99
    assert scores.aligned.box_iou > 0.9 > scores.raw.box_iou
    for item in scores.objects:
        assert item.aligned.whole.f_5 > 0.99
        assert item.raw.whole.f_5 < 0.3


def test_an_objects_own_frame_leaves_out_the_errors_of_its_place() -> None:
    true = true_scene()
    made = made_scene(true)
    nearer = replace(made.meshes[1], vertices=(0.7 * made.meshes[1].vertices).astype(np.float32))
    scores = measure_scene(replace(made, meshes={**made.meshes, 1: nearer}), true, SETTINGS)
    moved = scores.objects[0]
    assert moved.raw.whole.f_5 < 0.3
    assert moved.own.whole.f_5 > 0.99
    assert moved.own.box_iou > 0.95


def test_objects_are_matched_by_their_masks_not_their_ids() -> None:
    true = true_scene()
    new = {1: 7, 2: 5, 3: 6}
    made = made_scene(true)
    ids = np.select([true.ids == i for i in new], list(new.values()), 0)
    renamed = MadeScene({new[i]: mesh for i, mesh in made.meshes.items()}, {7: 0, 5: 7, 6: 0}, ids, made.camera)
    scores = measure_scene(renamed, true, SETTINGS)
    assert {item.id: item.matched for item in scores.objects} == new
    assert scores.supports.precision == pytest.approx(2 / 3)


def test_an_object_that_is_not_made_counts_as_nothing() -> None:
    true = true_scene()
    made = made_scene(true)
    less = replace(made, meshes={i: mesh for i, mesh in made.meshes.items() if i != 2}, supports={1: 0, 3: 0})
    scores = measure_scene(less, true, SETTINGS)
    missing = scores.objects[1]
    assert missing.matched is None
    assert (missing.silhouette_iou, missing.silhouette_iou_amodal, missing.raw.box_iou) == (0, 0, 0)
    assert (missing.raw.whole.f_5, missing.raw.whole.chamfer_mean) == (0, None)
    assert scores.made == 2
    assert scores.raw.box_iou == pytest.approx(2 / 3, abs=1e-4)
    assert scores.raw.whole.f_5 < 1


def test_nothing_made_is_measured() -> None:
    true = true_scene()
    scores = measure_scene(nothing_made(true.camera), true, SETTINGS)
    assert [item.raw.whole.f_5 for item in scores.objects] == [0, 0, 0]
    assert (scores.raw.whole.f_5, scores.raw.box_iou, scores.alignment) == (0, 0, None)
    seen = nothing_seen(true.ids)
    assert (seen.found, seen.labelled, seen.mask_recall, seen.mask_precision) == (0, 3, 0, None)
    assert nothing_seen(None).mask_recall is None


def test_a_true_object_without_a_visible_pixel_is_not_in_the_list() -> None:
    true = true_scene()
    covered = replace(true, ids=np.where(true.ids == 3, 0, true.ids))
    assert [item.id for item in measure_scene(made_scene(covered), covered, SETTINGS).objects] == [1, 2]


def test_common_volume_is_penetration() -> None:
    true = true_scene()
    made = made_scene(true)
    # The first box a second time, half its width to the side.
    shifted = made.meshes[1].transformed(np.array([[1, 0, 0, 0.08], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    both = replace(made, meshes={1: made.meshes[1], 2: shifted}, supports={1: 0, 2: 0})
    scores = measure_scene(both, true, SETTINGS)
    assert scores.penetration.volume_m3 == pytest.approx(0.08 * 0.2 * 0.14, rel=1e-3)
    assert scores.penetration.share == pytest.approx(0.25, rel=1e-3)


def test_the_same_seed_measures_the_same() -> None:
    true = true_scene()
    made = made_scene(true, Similarity(1.05, np.eye(3), np.zeros(3)))
    assert measure_scene(made, true, SETTINGS) == measure_scene(made, true, SETTINGS)


def test_perception_is_measured_at_its_own_size() -> None:
    true = true_scene()
    half = intrinsics_from_fov(80, 60, 40)
    ids, depth = true.ids[::2, ::2], true.depth[::2, ::2] * 3
    scores = measure_perception(ids, depth, half, true.ids, true.depth, true.camera)
    assert (scores.found, scores.labelled) == (3, 3)
    assert (scores.mask_precision, scores.mask_recall) == (1, 1)
    assert scores.depth is not None
    assert scores.depth.scale == pytest.approx(1 / 3, rel=0.01)
    assert scores.depth.abs_rel < 0.02
    assert scores.fov_error_deg == pytest.approx(-10)
    split = np.where((ids == 1) & (np.arange(80) % 2 == 0), 9, ids)  # one object in two halves, none of them at IoU 0.5
    halved = measure_perception(split, depth, half, true.ids, None, None)
    assert (halved.found, halved.depth, halved.fov_error_deg) == (4, None, None)
    assert (halved.mask_precision or 0) <= 3 / 4
    assert (halved.mask_recall or 0) <= 1
