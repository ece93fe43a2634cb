"""Samples of the compact generator, and its training: mirrored, prepared once, resumed, learning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scenegen.camera import project, transform, unproject
from scenegen.errors import InputError
from scenegen.geometry.field import cube_edge
from scenegen.geometry.generator import ObjectView
from scenegen.pixal3d.compact import RELIEF_ERROR, evidence
from scenegen.pixal3d.visibility import PRIOR
from scenegen.train import generator as training
from scenegen.train import samples as module
from scenegen.train.generator import Training, judged_loss, seeded
from scenegen.train.meshes import MeshFile, MeshFolder, mesh_folder
from scenegen.train.samples import (
    QUANTUM,
    Samples,
    batch_of,
    degraded,
    estimated,
    load_samples,
    parted,
    prepare,
    prepared,
    samples_of,
    stacked,
)
from scenegen.train.views import view, views
from tests.geometry.views import sphere_view
from tests.pixal3d.test_compact import SMALL, small_generator
from tests.train.folders import small_folder


@pytest.fixture(scope="module")
def meshes(tmp_path_factory: pytest.TempPathFactory) -> MeshFolder:
    return mesh_folder(small_folder(tmp_path_factory.mktemp("meshes")))


@pytest.fixture(scope="module")
def solids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("solids")


@pytest.fixture(scope="module")
def samples(meshes: MeshFolder, solids: Path) -> Samples:
    return stacked([samples_of(meshes, solids, seed, SMALL)[0] for seed in range(4)])


def test_what_is_known_agrees_with_what_is_true(samples: Samples) -> None:
    batch = batch_of(samples, torch.arange(4), False, SMALL)
    assert batch.latent.shape == (4, SMALL.latent_channels, *3 * (SMALL.tokens,))
    assert batch.latent.abs().max() <= 1
    prior, truth = samples.visibility[..., PRIOR] < 0, samples.distance < 0
    errors = samples.scalars[:, RELIEF_ERROR].tolist()
    for one, other, error in zip(prior, truth, errors, strict=True):
        assert (one & other).sum() > (0.5 if error < 0.08 else 0.2) * min(one.sum(), other.sum())
    assert len(set(errors)) > 1
    assert (samples.distance.float() / QUANTUM).abs().max() <= 1


def mirrored(view: ObjectView) -> ObjectView:
    return replace(
        view,
        image=view.image[:, ::-1].copy(),
        mask=view.mask[:, ::-1].copy(),
        depth=view.depth[:, ::-1].copy(),
        limit=view.limit[:, ::-1].copy(),
        up=view.up * np.float32([-1, 1, 1]),
    )


def test_a_mirrored_sample_is_the_sample_of_a_mirrored_photo() -> None:
    seen = sphere_view(occluded=True)
    ramp = np.linspace(10, 250, seen.mask.shape[1], dtype=np.uint8)
    seen = replace(seen, image=np.broadcast_to(ramp[:, None], seen.image.shape).copy())
    seen = replace(seen, up=np.float32([0.3, -0.9, 0.3]) / np.float32(np.sqrt(0.99)))

    def sample(seen: ObjectView) -> Samples:
        known = evidence(seen, cube_edge(seen), SMALL)
        cells, side = SMALL.cells, SMALL.tokens * SMALL.colour_patch
        return Samples(
            image=(known.image * 255).round().to(torch.uint8),
            visibility=(known.visibility * QUANTUM).round().to(torch.int8),
            centres=known.centres,
            parts=known.parts,
            shares=known.shares,
            scalars=known.scalars,
            distance=torch.zeros((1, cells, cells, cells), dtype=torch.int8),
            colour=torch.zeros((1, side, side, side, 3), dtype=torch.uint8),
        )

    rows = torch.arange(1)
    flipped = batch_of(sample(seen), rows, True, SMALL).known
    direct = batch_of(sample(mirrored(seen)), rows, False, SMALL).known
    np.testing.assert_allclose(flipped.centres, direct.centres, atol=1e-5)
    np.testing.assert_allclose(flipped.parts, direct.parts, atol=1e-5)
    np.testing.assert_allclose(flipped.scalars, direct.scalars, atol=1e-5)
    np.testing.assert_allclose(flipped.image, direct.image, atol=1e-6)
    difference = (flipped.visibility - direct.visibility).abs()
    assert (difference > 0.05).float().mean() < 0.01  # nearest pixels and spline fits are not quite symmetric


@pytest.mark.parametrize(("error", "least", "most"), [(0.02, 0.005, 0.05), (0.17, 0.08, 0.35)])
def test_estimates_are_as_far_from_the_truth_as_they_say(
    meshes: MeshFolder, error: float, least: float, most: float
) -> None:
    found, overlaps = [], []
    for seed in range(8):
        seen = view(meshes, seed, 64).view
        worse = degraded(seen, error, np.random.default_rng(seed))
        inside, judged = seen.mask > 0.5, worse.mask > 0.5
        both = inside & judged & (seen.depth > 0)
        change = np.log(worse.depth[both] / seen.depth[both])
        found.append(change.std() * seen.crop.intrinsics.fx / np.sqrt(inside.sum()))
        overlaps.append((inside & judged).sum() / (inside | judged).sum())
        assert worse.relief_error == error
        assert np.array_equal(seen.image, worse.image)
        assert np.isclose(np.linalg.norm(worse.up), 1)
    assert least < np.median(found) < most
    assert 0.6 < np.median(overlaps) < 1


def test_an_object_estimated_too_near_is_learned_where_it_is_estimated(
    meshes: MeshFolder, solids: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice as far as a whole is the same sample: nothing but the scale of the metres has changed."""

    def farther(shown: ObjectView, error: float, rng: np.random.Generator) -> ObjectView:
        return replace(shown, depth=shown.depth * factor, limit=shown.limit * factor)

    monkeypatch.setattr(module, "degraded", farther)
    monkeypatch.setattr(module, "EXACT", 0.0)
    factor = 1.0
    (near,) = samples_of(meshes, solids, 3, SMALL)
    factor = 2.0
    (far,) = samples_of(meshes, solids, 3, SMALL)
    assert np.abs(near["distance"].astype(int) - far["distance"]).max() <= 1
    assert np.abs(near["visibility"].astype(int) - far["visibility"]).mean() < 1


def test_meshes_are_parted_by_name_whatever_else_is_there() -> None:
    files = tuple(MeshFile(Path(f"mesh{number}.glb")) for number in range(400))
    learned, judged = parted(MeshFolder(files))
    assert len(learned) + len(judged) == 400
    assert 5 < len(judged) < 40
    fewer = parted(MeshFolder(files[::2]))[1].files
    assert set(fewer) == set(judged.files) & set(files[::2])


def test_samples_are_prepared_once_and_whole(
    meshes: MeshFolder, solids: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD", 2)
    cache = tmp_path / "cache"
    cache.mkdir()
    with pytest.raises(InputError, match="has no samples"):
        prepared(cache)
    assert module._make_shard(meshes, cache, 0, SMALL) == 0
    (path,) = prepared(cache)
    assert len(load_samples([path])) == 2
    before = path.stat().st_mtime_ns
    prepare(meshes, cache, 2, SMALL)
    assert prepared(cache) == [path]
    assert path.stat().st_mtime_ns == before


def step(state: Training, samples: Samples) -> float:
    rng = seeded(state.device, 7, state.step)
    loss = training.batch_loss(state.generator, batch_of(samples, torch.arange(4), False, SMALL), rng).mean()
    state.update(loss, 2e-3)
    return loss.item()


def test_it_learns(samples: Samples) -> None:
    torch.manual_seed(0)
    state = Training(small_generator())
    before = judged_loss(state.generator, samples, 2)
    for _ in range(30):
        step(state, samples)
    with state.judged() as averaged:
        after = judged_loss(averaged, samples, 2)
    assert after < 0.8 * before
    assert judged_loss(state.generator, samples, 2) != after


def test_a_resumed_training_is_the_one_that_was_not_interrupted(samples: Samples, tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = Training(small_generator())
    for _ in range(3):
        step(whole, samples)
    torch.manual_seed(0)
    first = Training(small_generator())
    for _ in range(2):
        step(first, samples)
    first.minutes = 1.5
    first.save(tmp_path / "state.pt")
    torch.manual_seed(1)
    second = Training(small_generator(trained=True))
    second.load(tmp_path / "state.pt")
    assert (second.step, second.minutes) == (2, 1.5)
    step(second, samples)
    for name, value in whole.learned.items():
        torch.testing.assert_close(second.learned[name], value)
        torch.testing.assert_close(second.averaged[name], whole.averaged[name])


def test_a_sample_has_one_view_to_as_many_as_asked(meshes: MeshFolder, solids: Path) -> None:
    made = stacked(samples_of(meshes, solids, 1, SMALL, conditions=6, views=3))
    assert made.image.shape[:2] == (6, 3)
    there = (made.shares > 0).any(dim=2)
    counts = there.sum(dim=1)
    assert 1 <= counts.min() < counts.max() <= 3
    for mine, count in zip(there, counts, strict=True):
        assert mine[:count].all()
    total = made.shares.float().sum(dim=1)
    torch.testing.assert_close(total, torch.ones_like(total), atol=2e-3, rtol=0)
    batch = batch_of(made, torch.arange(6), True, SMALL)
    rng = torch.Generator().manual_seed(0)
    assert torch.isfinite(training.batch_loss(small_generator(trained=True), batch, rng)).all()


def test_views_of_one_object_lie_on_each_other_s_pixels(meshes: MeshFolder) -> None:
    first, *others = views(meshes, 2, 4, 64)
    assert np.array_equal(first.view.image, view(meshes, 2, 64).view.image)
    assert others
    inside = (first.view.mask > 0.9) & (first.view.depth > 0)
    points = unproject(first.view.crop.intrinsics, first.view.depth)[inside]
    for other in estimated([first, *others], 0.0, np.random.default_rng(0)).others:
        assert np.allclose(other.crop_from_main[:3, :3] @ other.crop_from_main[:3, :3].T, np.eye(3), atol=1e-6)
        mine = transform(other.crop_from_main, points)
        at = np.floor(project(other.view.crop.intrinsics, mine)).astype(int)
        shown = (mine[:, 2] > 0) & ((at >= 0) & (at < 64)).all(axis=1)
        column, row = at[shown].T
        # Nothing that one view sees is in front of what another sees there.
        seen = other.view.depth[row, column]
        assert (mine[shown, 2] > 0.97 * seen).mean() > 0.9
