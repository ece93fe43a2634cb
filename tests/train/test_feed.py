"""Processes that render, the memory they fill, and a training that is interrupted, resumed, or meets what is not finite."""

from __future__ import annotations

from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from scenegen.errors import InputError, ResourceError
from scenegen.train import generator as training
from scenegen.train import processes
from scenegen.train.feed import Made, Order, Pool, feed, views
from scenegen.train.generator import Training, seeded
from scenegen.train.meshes import mesh_folder, pack_meshes
from scenegen.train.processes import Stream
from scenegen.train.samples import batch_of
from scenegen.weights.file import read_weights
from tests.pixal3d.test_compact import SMALL, TinyTrunk, small_generator
from tests.train.folders import small_folder


@pytest.fixture(scope="module")
def order(tmp_path_factory: pytest.TempPathFactory) -> Order:
    folder = tmp_path_factory.mktemp("feed")
    meshes = mesh_folder(small_folder(folder / "glb"))
    return Order(meshes, meshes, folder / "solids", SMALL, conditions=2, shown=1, stretch=0.2, judged=3, seed=5)


@pytest.fixture(scope="module")
def made(order: Order) -> list[Made]:
    return list(islice(views(order, 0, 1), 6))


def test_views_to_judge_by_come_first_and_are_the_same_whoever_makes_them(order: Order, made: list[Made]) -> None:
    assert [view.judged for view in made] == [0, 1, 2, None, None, None]
    assert [len(view.samples) for view in made] == [1, 1, 1, 2, 2, 2]
    (other,) = islice(views(replace(order, seed=6), 1, 2), 1)
    assert other.judged == 1
    for name, value in made[1].samples[0].items():
        np.testing.assert_array_equal(other.samples[0][name], value)


def test_no_two_views_to_learn_from_are_the_same(order: Order, made: list[Made]) -> None:
    learned = [view.samples[0]["image"] for view in made[3:]]
    for process, seed in ((0, 6), (1, 5)):
        others = islice(views(replace(order, judged=0, seed=seed), process, 2), 2)
        learned += [view.samples[0]["image"] for view in others]
    assert len({image.tobytes() for image in learned}) == len(learned)
    first, second = made[3].samples
    assert not np.array_equal(first["scalars"], second["scalars"])
    assert np.abs(first["image"].astype(int) - second["image"]).mean() < 20  # one view, estimated twice


@pytest.mark.slow
def test_processes_hand_over_views_and_end_with_the_block(order: Order) -> None:
    with feed(order, 2) as source:
        wanted: set[int | None] = {None, 0, 1, 2}
        while wanted:  # whichever process comes first
            view = source.get(wait=True)
            if view is not None:
                wanted.discard(view.judged)
        processes = list(source._processes)
    assert not any(process.is_alive() for process in processes)


@pytest.mark.slow
def test_processes_that_end_by_themselves_end_the_training(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PATIENCE", 0.2)
    broken = replace(order, solids=Path("/dev/null/solids"))

    def wait_for_ever() -> None:
        with feed(broken, 1) as source:
            while True:
                source.get(wait=True)

    with pytest.raises(ResourceError, match="have ended"):
        wait_for_ever()


def test_the_latest_samples_replace_the_oldest(made: list[Made]) -> None:
    pool = Pool(3, torch.device("cpu"))
    with pytest.raises(InputError, match="no samples"):
        _ = pool.samples
    pool.add(made[3].samples)
    assert len(pool) == 2
    assert pool.draw(50, seeded(pool.device, 1)).max() == 1
    pool.add(made[4].samples)
    assert (len(pool), pool.received) == (3, 4)
    newest = torch.from_numpy(made[4].samples[1]["distance"])
    assert torch.equal(pool.samples.distance[0], newest)
    assert set(pool.draw(50, seeded(pool.device, 1)).tolist()) == {0, 1, 2}


def test_a_step_that_is_not_finite_changes_nothing(made: list[Made]) -> None:
    pool = Pool(4, torch.device("cpu"))
    pool.add(made[3].samples)
    state = Training(small_generator(trained=True))
    chosen = batch_of(pool.samples, torch.arange(2), False, SMALL)
    before = {name: value.detach().clone() for name, value in state.learned.items()}
    bad = replace(chosen, latent=chosen.latent * torch.nan)
    assert not state.update(training.batch_loss(state.generator, bad, seeded(state.device, 0)).mean(), 1e-3)
    assert state.step == 0
    for name, value in state.learned.items():
        assert torch.equal(value, before[name])
    assert state.update(training.batch_loss(state.generator, chosen, seeded(state.device, 0)).mean(), 1e-3)
    assert state.step == 1


class Source(Stream[Made]):
    """Hands over what was made before, again and again."""

    def __init__(self, made: list[Made]) -> None:
        self._made = made
        self._given = 0

    def get(self, wait: bool) -> Made | None:
        if not wait and self._given >= len(self._made):
            return None
        self._given += 1
        return self._made[(self._given - 1) % len(self._made)]


@pytest.fixture
def trained(made: list[Made], order: Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """The command, with a small network and views made before."""

    class Feeding:
        def __init__(self, ordered: Order, workers: int) -> None:
            assert ordered.judged == 3
            assert workers == 2

        def __enter__(self) -> Source:
            return Source(made)

        def __exit__(self, *_: object) -> None:
            ended.append(1)

    ended: list[int] = []
    ticks = count()
    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: 0.05 * next(ticks)))
    monkeypatch.setattr(training, "feed", Feeding)
    monkeypatch.setattr(training, "parted", lambda meshes: (meshes, meshes))
    monkeypatch.setattr(training, "imagenet_trunk", TinyTrunk)
    monkeypatch.setattr(training, "CompactSettings", lambda: SMALL)
    pack = tmp_path / "all.meshes"
    pack_meshes(meshes=small_folder(tmp_path / "glb"), out=pack)

    def run(minutes: float) -> None:
        before = len(ended)
        try:
            training.train(
                meshes=pack, out=tmp_path / "best.safetensors", minutes=minutes, device="cpu", workers=2, batch=2,
                judged=3, least=2, reuse=1.0, pool=8, every=0.0,
            )  # fmt: skip
        finally:
            assert len(ended) in (before, before + 1)

    return run


def state_of(folder: Path) -> dict[str, object]:
    return dict(torch.load(folder / "best.pt", weights_only=True))


def test_the_command_trains_resumes_and_ends(trained, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    trained(0.02)
    first = state_of(tmp_path)
    assert first["step"] >= 1
    network = read_weights(tmp_path / "best.safetensors", lambda settings: small_generator(), SMALL)
    assert np.isfinite(sum(float(value.sum()) for value in network.state_dict().values()))
    trained(0.02)
    assert state_of(tmp_path)["minutes"] == first["minutes"]  # nothing is left to do
    trained(0.04)
    second = state_of(tmp_path)
    assert second["step"] > first["step"]
    assert second["runs"] == 1
    assert not list(tmp_path.glob("*.tmp")) + list(tmp_path.glob("*.partial"))


def test_an_interruption_leaves_the_last_state(trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    loss, calls = training.batch_loss, []

    def interrupted(*arguments: object, **options: object) -> Tensor:
        calls.append(1)
        if len(calls) > 6:
            raise KeyboardInterrupt
        return loss(*arguments, **options)

    monkeypatch.setattr(training, "batch_loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trained(1.0)
    assert state_of(tmp_path)["step"] >= 1


def test_numbers_that_stay_infinite_end_the_training(trained, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    loss = training.batch_loss
    monkeypatch.setattr(training, "REFUSED", 3)
    monkeypatch.setattr(training, "batch_loss", lambda *given, **options: loss(*given, **options) * torch.nan)
    with pytest.raises(InputError, match="3 steps in a row"):
        trained(1.0)
