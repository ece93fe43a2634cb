"""The training goes on where it stopped, and writes weights the product reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from scenegen.errors import InputError, UsageError, WeightsError
from scenegen.perception.embedded import load_network
from scenegen.perception.network import FOCAL_BINS, PerceptionNetwork, focal_bins
from scenegen.perception.nouns import NOUNS
from scenegen.train import perception
from scenegen.train.perception import WEIGHTS, Pools, Training, allows_all, read_all, split, train
from scenegen.train.pictures import TrainingPicture
from scenegen.train.pool import ZOOM
from scenegen.weights.file import write_weights
from tests.perception import said
from tests.train.pictured import FOCAL, HEIGHT, WIDTH, made_picture, write_photographs, write_scenes

TINY = replace(said.TINY, nouns=NOUNS)
CPU = torch.device("cpu")
FLAT = torch.zeros(FOCAL_BINS)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough that some are held out."""
    return write_scenes(tmp_path_factory.mktemp("scenes"), 6)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    write_weights(PerceptionNetwork(TINY), TINY, path)
    return path


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perception, "SIZES", ((64, 64),))
    monkeypatch.setattr(perception, "PHOTO_SIDE", 96)
    monkeypatch.setattr(perception, "SCENE_SIDE", 96)
    monkeypatch.setattr(perception, "CROP_SIDE", 64)
    monkeypatch.setattr(perception, "HELD_OUT_BATCHES", 1)
    monkeypatch.setattr(perception, "HELD_OUT", 3)


def training_of(start: Path | None, checkpoint: Path, **options: object) -> Training:
    return Training(start, checkpoint, 1.0, FLAT, CPU, settings=TINY, **options)  # type: ignore[arg-type]


def pools_of(*pictures: TrainingPicture) -> Pools:
    return Pools(pictures, CPU, rendered=False)


def unlabelled(**changes: object) -> TrainingPicture:
    """A photograph of which nothing is known."""
    nothing = {"log_depth": None, "camera": None, "down": None, "nouns": {}, "exhaustive": False}
    return made_picture(**{**nothing, "ids": np.full((HEIGHT, WIDTH), 255, np.uint8), **changes})


def photograph(**changes: object) -> TrainingPicture:
    return unlabelled(ids=made_picture().ids, **changes)


def test_a_stopped_training_goes_on_as_if_it_had_not_stopped(start: Path, tmp_path: Path) -> None:
    pools = pools_of(made_picture(), photograph())
    checkpoint = tmp_path / "made" / "state.pt"
    whole = training_of(start, checkpoint)
    whole.advance(pools, 2, 2, minutes=1.0)
    whole.minutes = 0.25
    whole.save(checkpoint)
    resumed = training_of(None, checkpoint)
    assert (resumed.step, resumed.minutes) == (1, 0.25)
    assert whole.advance(pools, 2, 2, minutes=1.0) == resumed.advance(pools, 2, 2, minutes=1.0)
    for mine, theirs in ((whole.network, resumed.network), (whole.averaged, resumed.averaged)):
        for name, value in mine.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[name]), name
    assert not list(checkpoint.parent.glob("*.partial"))


def test_it_starts_from_the_weights_given(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = training_of(start, tmp_path / "absent.pt")
    given = load_network(start).state_dict()
    for network in (training.network, training.averaged):
        assert all(torch.equal(value, given[name]) for name, value in network.state_dict().items())
    assert training.network.training
    loaded: list[str] = []
    monkeypatch.setattr(perception, "imagenet_file", lambda variant: Path(variant))
    monkeypatch.setattr(perception, "load_imagenet", lambda trunk, path: loaded.append(str(path)))
    training_of(None, tmp_path / "absent.pt")
    assert loaded == [TINY.trunk]
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        training_of(tmp_path / "absent.safetensors", tmp_path / "absent.pt")
    other = tmp_path / "other.safetensors"
    write_weights(PerceptionNetwork(said.TINY), said.TINY, other)
    with pytest.raises(InputError, match="has other nouns"):
        training_of(other, tmp_path / "absent.pt")


def test_every_term_is_weighed_and_finite(start: Path, tmp_path: Path) -> None:
    terms = training_of(start, tmp_path / "absent.pt").advance(
        pools_of(made_picture(), photograph(camera=made_picture().camera)), 3, 2, minutes=1.0
    )
    assert terms.keys() == WEIGHTS.keys()
    assert all(bool(term.isfinite()) for term in terms.values())


@pytest.mark.parametrize(
    "pictures",
    [
        (unlabelled(),),
        (photograph(),),
        (photograph(), unlabelled(log_depth=made_picture().log_depth)),
        (made_picture(log_depth=None, camera=None),),
        (made_picture(ids=np.zeros((HEIGHT, WIDTH), np.uint8)),),
        (made_picture(log_depth=np.full((HEIGHT, WIDTH), np.inf, np.float32)),),
    ],
    ids=["nothing", "masks", "depth of one", "no depth", "no objects", "sky"],
)
def test_whatever_is_not_known_a_step_is_finite(
    pictures: tuple[TrainingPicture, ...], start: Path, tmp_path: Path
) -> None:
    training = training_of(start, tmp_path / "absent.pt")
    terms = training.advance(pools_of(*pictures), 2, 2, minutes=1.0)
    assert all(bool(term.isfinite()) for term in terms.values())
    assert training.refused == 0
    assert all(bool(value.isfinite().all()) for value in training.network.state_dict().values())


@pytest.mark.slow
def test_learning_lowers_the_loss(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perception, "WARM_STEPS", 5)
    training = training_of(start, tmp_path / "absent.pt")
    pools = pools_of(made_picture())
    terms = [training.advance(pools, 2, 2, minutes=1.0) for _ in range(20)]
    for name in ("object", "down", "focal"):
        first, last = (torch.stack([each[name] for each in part]).mean() for part in (terms[:4], terms[-4:]))
        assert last < first, name


def test_steps_that_stay_infinite_end_the_training(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perception, "REFUSED", 2)
    training = training_of(start, tmp_path / "absent.pt")
    before = {name: value.clone() for name, value in training.network.state_dict().items()}

    def infinite(network: PerceptionNetwork, *_: object, **__: object) -> dict[str, Tensor]:
        return {"down": torch.nan * next(network.parameters()).sum()}

    monkeypatch.setattr(training, "terms", infinite)
    pools = pools_of(unlabelled())
    for _ in range(2):
        training.advance(pools, 1, 1, minutes=1.0)
    for name, value in training.network.state_dict().items():
        assert torch.equal(value, before[name]), name
    with pytest.raises(InputError, match="2 steps in a row were not finite"):
        training.advance(pools, 1, 1, minutes=1.0)


def test_what_is_held_out_is_judged_alike_and_changes_nothing(start: Path, tmp_path: Path) -> None:
    training = training_of(start, tmp_path / "absent.pt")
    pools = pools_of(made_picture())
    torch.manual_seed(5)
    first = training.held_out(pools, 2, 2)
    drawn = torch.rand(())
    torch.manual_seed(5)
    assert torch.rand(()) == drawn
    assert training.held_out(pools, 2, 2) == first


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        training_of(None, path)


def test_a_checkpoint_of_another_network_is_refused(start: Path, tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    training_of(start, path).save(path)
    wider = replace(TINY, width=48)
    with pytest.raises(InputError, match="to another network"):
        Training(None, path, 1.0, FLAT, CPU, settings=wider)


def test_the_command_resumes_and_writes_weights_that_load(
    scenes: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = count()
    monkeypatch.setattr(perception, "time", SimpleNamespace(monotonic=lambda: 0.5 * next(ticks)))
    out = tmp_path / "perception.safetensors"

    def run(minutes: float) -> int:
        train(data=[scenes], minutes=minutes, out=out, start=start, batch=2, crops=2, threads=1, every=0.0)
        return int(torch.load(out.with_suffix(".pt"), weights_only=True)["step"])

    first = run(0.03)
    assert first >= 1
    network = load_network(out)  # strictly: every tensor, and the settings
    assert network.settings == TINY
    assert all(bool(value.isfinite().all()) for value in network.state_dict().values())
    assert run(0.03) == first  # the time is used up
    assert run(0.06) > first


def test_the_command_refuses_what_makes_no_sense(tmp_path: Path) -> None:
    for minutes in (-1.0, 0.0):
        with pytest.raises(UsageError, match=f"`minutes` is {minutes}"):
            train(data=[tmp_path], minutes=minutes, out=tmp_path / "out.safetensors")
    with pytest.raises(UsageError, match="`workers` and `meshes` need each other"):
        train(data=[tmp_path], minutes=1.0, workers=1, out=tmp_path / "out.safetensors")


def test_what_is_rendered_meanwhile_is_trained_on(
    scenes: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Composed scenes join the scenes; views of single objects are for crops."""
    seen: list[Pools] = []
    waiting = [made_picture("composed"), made_picture("view", down=None, exhaustive=False)] * 3

    class Source:
        def ready(self, most: int) -> Iterator[TrainingPicture]:
            while waiting:
                yield waiting.pop()

    @contextmanager
    def rendering(meshes: Path, workers: int, seed: int) -> Iterator[Source]:
        assert (meshes, workers, seed) == (scenes, 1, 4)
        yield Source()

    advance = Training.advance

    def noted(training: Training, pools: Pools, *arguments: float) -> dict[str, Tensor]:
        seen.append(pools)
        return advance(training, pools, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(perception, "RENDERED", 8)
    monkeypatch.setattr(perception, "rendering", rendering)
    monkeypatch.setattr(Training, "advance", noted)
    train(
        data=[scenes], minutes=1e-6, out=tmp_path / "out.safetensors", start=start, meshes=scenes, workers=1,
        batch=2, crops=2, threads=1, seed=4,
    )  # fmt: skip
    assert seen[0].rendered == 6
    assert len(seen[0].views) == 3
    assert len(seen[0].whole["scenes"]) == len(split(read_all([scenes]))[0]) + 3


def test_groups_are_held_out_whole_and_tests_are_neither() -> None:
    pictures = [made_picture(f"{group}-{index}", group=str(group)) for group in range(40) for index in range(3)]
    pictures += [made_picture("never", split="test")]
    trained, held_out = split(pictures)
    assert len(trained) + len(held_out) == 120
    assert not {picture.group for picture in trained} & {picture.group for picture in held_out}
    assert len(held_out) % 3 == 0
    with pytest.raises(InputError, match="has 1 pictures, too few"):
        split(pictures[:1])


@pytest.mark.parametrize(
    ("licence", "free"),
    [
        ("", True),
        ("CC BY 4.0", True),
        ("CC BY-SA 4.0", True),
        ("CC0", True),
        ("MIT", True),
        ("Apache-2.0", True),
        ("Apache-2.0 licence file, and notices", True),
        ("no known restrictions", True),
        ("CC BY-NC 4.0", False),
        ("CC BY-ND 2.0", False),
        ("research only", False),
        ("non-commercial use", False),
        ("not stated", False),
        ("all rights reserved", False),
    ],
)
def test_free_licences_allow_sale_and_changes(licence: str, free: bool) -> None:
    assert allows_all(licence) == free


def test_only_free_photographs_are_used_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = read_all([write_photographs(tmp_path / "photographs")])
    monkeypatch.setattr(perception.zlib, "crc32", lambda group: int(group == b"of exhaustive"))
    trained, held_out = split(pictures)
    assert {picture.name for picture in trained + held_out} == {"exhaustive", "partial", "salient"}
    trained, held_out = split(pictures, free=True)
    assert {picture.name for picture in trained + held_out} == {"exhaustive", "salient"}


def test_a_batch_mixes_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perception, "SIZES", ((96, 64),))
    pools = pools_of(made_picture(), photograph(), photograph(camera=made_picture().camera))
    assert {name: len(pool) for name, pool in pools.whole.items()} == {"photographs": 2, "measured": 1, "scenes": 1}
    gravity, shapes = [], set()
    for seed in range(40):
        torch.manual_seed(seed)
        batch = pools.batch(4)
        assert len(batch.ids) == 4
        gravity += batch.down.isfinite().all(1).tolist()
        shapes.add(tuple(batch.images.shape[2:]))
    assert np.mean(gravity) == pytest.approx(perception.MIXTURE["scenes"], abs=0.08)
    assert shapes == {(64, 96), (96, 64)}


def test_the_prior_is_where_the_focal_lengths_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perception, "SIZES", ((64, 48),))
    prior = pools_of(made_picture(), photograph()).focal_prior().exp()
    bins = focal_bins().exp()
    usual = (bins > 0.93 * ZOOM[0] * FOCAL / WIDTH) & (bins < 1.07 * ZOOM[1] * FOCAL / WIDTH)
    assert float(prior[usual].sum()) > 0.8
    assert (prior >= perception.RAREST_BIN - 1e-9).all()
    flat = pools_of(photograph()).focal_prior()
    assert torch.allclose(flat, flat[:1].expand(FOCAL_BINS))
