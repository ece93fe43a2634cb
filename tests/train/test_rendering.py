"""Rendered training pictures agree with themselves; the processes that render them end with the block."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from scenegen.errors import InputError, ResourceError
from scenegen.train import rendering as module
from scenegen.train.meshes import MeshFolder, mesh_folder
from scenegen.train.pictures import TrainingPicture
from scenegen.train.processes import Stream, stream
from scenegen.train.rendering import composed_picture, rendered, rendering, single_picture
from scenegen.train.variation import PASTED_ID
from tests.train.folders import small_folder
from tests.train.pictured import made_picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_folder(tmp_path_factory.mktemp("meshes"))


@pytest.fixture(scope="module")
def meshes(folder: Path) -> MeshFolder:
    return mesh_folder(folder)


def agree(picture: TrainingPicture) -> None:
    height, width = picture.ids.shape
    assert picture.image.shape == (height, width, 3)
    assert picture.image.dtype == picture.ids.dtype == np.uint8
    assert picture.log_depth is not None
    assert picture.log_depth.shape == (height, width)
    assert not np.isnan(picture.log_depth).any()
    assert np.isfinite(picture.log_depth[picture.ids > 0]).mean() > 0.9
    assert picture.camera is not None
    assert (picture.camera > 0).all()
    assert picture.nouns == {}


def test_a_composed_scene_knows_everything(meshes: MeshFolder) -> None:
    picture = composed_picture(meshes, 1)
    agree(picture)
    assert picture.exhaustive
    assert 1 <= picture.ids.max() < PASTED_ID
    assert picture.down is not None
    assert np.linalg.norm(picture.down) == pytest.approx(1, abs=1e-5)
    assert picture.down[1] > 0  # cameras stand upright
    np.testing.assert_array_equal(composed_picture(meshes, 1).image, picture.image)


def test_a_view_knows_one_object(meshes: MeshFolder) -> None:
    picture = single_picture(meshes, 1)
    agree(picture)
    assert picture.ids.shape == (module.CROP_SIDE, module.CROP_SIDE)
    assert set(np.unique(picture.ids)) == {0, 1}
    assert not picture.exhaustive
    assert picture.down is None


def test_views_and_scenes_take_turns_and_draws_that_fail_are_passed_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def failing(kind: str) -> object:
        def picture(meshes: MeshFolder, seed: int) -> TrainingPicture:
            made.append(kind)
            if len(made) % 3 == 0:
                raise InputError("no draw shows an object well")
            return made_picture(kind)

        return picture

    monkeypatch.setattr(module, "composed_picture", failing("scene"))
    monkeypatch.setattr(module, "single_picture", failing("view"))
    got = list(islice(rendered(folder, [1, 2]), 6))
    assert made == (["scene", "view", "view", "view"] * 3)[: len(made)]
    assert [picture.name for picture in got] == [kind for index, kind in enumerate(made, 1) if index % 3]


def counted(first: int, most: int) -> Iterator[int]:
    yield from range(first, most)


def test_no_processes_hand_over_nothing() -> None:
    with rendering(None, 0, 0) as source:
        assert list(source.ready(10)) == []
        assert source.get(wait=True) is None


def test_what_is_ready_is_taken_without_waiting() -> None:
    class Given(Stream[int]):
        def __init__(self) -> None:
            self.left = [1, 2, 3]

        def get(self, wait: bool) -> int | None:
            assert not wait
            return self.left.pop(0) if self.left else None

    given = Given()
    assert list(given.ready(2)) == [1, 2]
    assert list(given.ready(2)) == [3]
    assert list(given.ready(2)) == []


@pytest.mark.slow
def test_processes_end_with_the_block(folder: Path) -> None:
    with rendering(folder, 2, 3) as source:
        got: list[TrainingPicture] = []
        while len(got) < 3:
            picture = source.get(wait=True)
            got += [] if picture is None else [picture]
        processes = list(source._processes)
    assert not any(process.is_alive() for process in processes)
    for picture in got:
        agree(picture)
    assert len({picture.image.tobytes() for picture in got}) == len(got)


@pytest.mark.slow
def test_all_that_was_made_is_handed_over_before_the_end_is_told() -> None:
    got: list[int] = []

    def take_all(source: Stream[int]) -> None:
        while True:
            made = source.get(wait=True)
            got.extend([] if made is None else [made])

    with stream(counted, [(0, 3), (10, 12)], 8) as source, pytest.raises(ResourceError, match="exit codes 0"):
        take_all(source)
    assert sorted(got) == [0, 1, 2, 10, 11]
