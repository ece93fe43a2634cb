"""The quantiser and the token cap."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scenegen.errors import InputError, UsageError
from scenegen.pixal3d.cascade import fine_voxels, quantise, unique_coords


def lattice(seed: int = 0, count: int = 3000) -> torch.Tensor:
    coords = torch.randint(0, 512, (count, 4), generator=torch.Generator().manual_seed(seed)).int()
    coords[:, 0] %= 2
    return coords


@given(st.integers(0, 511), st.sampled_from([64, 72, 80, 88, 96]))
def test_each_place_goes_to_the_nearest_voxel(place: int, grid: int) -> None:
    (ours,) = quantise(torch.tensor([[1, place, place, place]]).int(), grid).tolist()
    exact = (2 * place + 1) * (grid - 1) / 1024
    assert ours[0] == 1
    assert ours[1] == ours[2] == ours[3]
    assert abs(ours[1] - exact) < 0.5


def test_the_ends_of_the_lattice_are_the_ends_of_the_grid() -> None:
    assert quantise(torch.tensor([[0, 0, 511, 256]]).int(), 96).tolist() == [[0, 0, 95, 48]]


def test_unique_voxels_are_in_lexicographic_order() -> None:
    coords = quantise(lattice(), 64)
    assert unique_coords(coords).tolist() == [list(c) for c in sorted({tuple(c) for c in coords.tolist()})]


def test_the_finest_resolution_below_the_cap_is_taken() -> None:
    coords = lattice()
    counts = {r: len(unique_coords(quantise(coords, r // 16))) for r in range(1024, 1537, 128)}
    assert fine_voxels(coords, 1536, counts[1536] + 1).warnings == ()
    capped = fine_voxels(coords, 1536, counts[1536])  # as many as the cap is too many
    assert capped.resolution == max(r for r in counts if counts[r] < counts[1536])
    assert capped.grid == capped.resolution // 16
    assert len(capped.coords) == counts[capped.resolution]
    assert "instead of 1536" in capped.warnings[0]


def test_the_coarsest_resolution_is_taken_at_any_size_and_said() -> None:
    fine = fine_voxels(lattice(), 1280, 5)
    assert fine.resolution == 1024
    assert "even at 1024" in fine.warnings[1]
    assert len(fine_voxels(lattice(), 1024, 5).warnings) == 1


def test_an_empty_shape_is_refused() -> None:
    with pytest.raises(InputError, match="is empty"):
        fine_voxels(lattice()[:0], 1024, 5)


@pytest.mark.parametrize("resolution", [512, 1000, 1100])
def test_other_resolutions_are_refused(resolution: int) -> None:
    with pytest.raises(UsageError, match=f"`resolution` is {resolution}"):
        fine_voxels(lattice(), resolution, 5)
