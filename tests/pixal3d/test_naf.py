import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from scenegen.errors import UsageError
from scenegen.pixal3d.naf import AxialRope, NafUpsampler, dilated_windows, neighbouring_cells
from scenegen.pixal3d.projection import sample

SIZES = [(9, 9), (9, 27), (12, 48), (10, 25), (9, 13), (11, 40), (5, 9)]
"""Cells and target. The first three divide; the last has too few cells, but dilated windows that fit."""


@pytest.fixture(scope="module")
def naf() -> NafUpsampler:
    torch.manual_seed(0)
    return NafUpsampler(dim=32, heads_attn=2, heads_rope=2).requires_grad_(False)


def picture(size: int, seed: int = 0) -> Tensor:
    return torch.rand(3, size, size, generator=torch.Generator().manual_seed(seed))


def features(cells: int, channels: int = 6) -> Tensor:
    return torch.randn(channels, cells, cells, generator=torch.Generator().manual_seed(1))


def some_points(count: int = 50) -> Tensor:
    return torch.rand(count, 2, generator=torch.Generator().manual_seed(2)) * 2.6 - 1.3


def window_by_definition(pixel: int, size: int, dilation: int, kernel: int) -> list[int]:
    """The `kernel` nearest pixels of the same phase, the window shifted to lie inside."""
    group = list(range(pixel % dilation, size, dilation))
    windows = [group[start : start + kernel] for start in range(len(group) - kernel + 1)]
    return min(windows, key=lambda window: abs(window[kernel // 2] - pixel))


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 6), st.sampled_from([1, 3, 5, 9]))
def test_windows_are_the_nearest_pixels_of_the_same_phase(size, dilation, kernel):
    assume(size // dilation >= kernel)
    expected = [window_by_definition(pixel, size, dilation, kernel) for pixel in range(size)]
    assert dilated_windows(size, dilation, kernel).tolist() == expected


@settings(deadline=None)
@given(st.integers(9, 20), st.integers(1, 8))
def test_where_the_target_divides_the_neighbours_are_the_cells_about_the_own(cells, ratio):
    own = torch.arange(cells * ratio) // ratio
    expected = (own - 4).clamp(0, cells - 9)[:, None] + torch.arange(9)
    assert torch.equal(neighbouring_cells(cells, cells * ratio, 9), expected)


def masked_attention(naf: NafUpsampler, guide: Tensor, lr: Tensor, size: int) -> Tensor:
    """Attention among all pixels of the enlarged maps, masked to each one's window."""
    cells = lr.shape[-1]
    queries = naf.queries(guide, size)
    keys = F.adaptive_avg_pool2d(queries, cells)
    enlarge = [F.interpolate(x[None], size=(size, size), mode="nearest-exact")[0] for x in (keys, lr)]
    allowed = torch.zeros(size, size, dtype=torch.bool)
    for pixel in range(size):
        allowed[pixel, window_by_definition(pixel, size, size // cells, naf.kernel_size)] = True
    mask = (allowed[:, None, :, None] & allowed[None, :, None, :]).reshape(size**2, size**2)
    q, k, v = (x.flatten(1).unflatten(0, (naf.heads, -1)).transpose(1, 2) for x in (queries, *enlarge))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(lr.shape[0], size, size)


@pytest.mark.parametrize(("cells", "size"), [(9, 18), (10, 25), (9, 13), (5, 9)])
def test_the_whole_map_is_masked_attention(naf, cells, size):
    guide, lr = picture(30), features(cells)
    assert torch.allclose(naf.dense(guide, lr, size), masked_attention(naf, guide, lr, size), atol=1e-5)


@pytest.mark.parametrize(("cells", "size"), SIZES)
def test_samples_are_those_of_the_whole_map(naf, cells, size):
    guide, lr, points = picture(40), features(cells), some_points()
    expected = sample(naf.dense(guide, lr, size), points)
    assert torch.allclose(naf.at(guide, lr, points, size), expected, atol=1e-5)


@pytest.mark.parametrize("budget", [1, 12_000, 28_000])
def test_the_memory_bound_changes_nothing(naf, budget):
    guide, lr, points = picture(20), features(9), some_points(12)
    expected = naf.at(guide, lr, points, 18)
    assert torch.allclose(naf.at(guide, lr, points, 18, budget), expected, atol=1e-5)


def test_no_points_give_no_features(naf):
    assert naf.at(picture(20), features(9), torch.zeros(0, 2), 18).shape == (0, 6)


def test_equal_features_stay_equal(naf):
    lr = torch.tensor([1.0, -2.0, 3.0, 0.5]).reshape(4, 1, 1).expand(4, 9, 9)
    ours = naf.at(picture(30), lr, some_points(), 27)
    assert torch.allclose(ours, lr[:, 0, 0].expand(50, 4), atol=1e-5)


def test_a_window_that_covers_the_map_can_reach_every_cell(naf):
    """Nine cells and a window of nine: each output is a mean of all cells, with weights above 0."""
    lr = torch.zeros(2, 9, 9)
    lr[:, 8, 0] = 1
    assert (naf.at(picture(30), lr, some_points(), 27) > 0).all()


def test_an_oversized_guide_is_shrunk_to_four_times_the_target(naf):
    large = picture(60)
    shrunk = F.interpolate(large[None], size=(36, 36), mode="bilinear", align_corners=False)[0]
    assert torch.equal(naf.queries(large, 9), naf.queries(shrunk, 9))
    assert not torch.allclose(naf.queries(shrunk, 10), naf.queries(large, 10))


def test_the_rotary_embedding_turns_pairs_by_row_and_by_column():
    rope = AxialRope(8, 1, 100.0)
    assert rope.periods.tolist() == [1.0, 10.0]
    x = torch.randn(1, 8, 3, 5)
    turned = rope(x)
    assert torch.allclose(turned[..., 1, 2], x[..., 1, 2])  # the middle is at 0
    first, second = torch.complex(x[0, :4], x[0, 4:]), torch.complex(turned[0, :4], turned[0, 4:])
    angle = torch.tensor([-2 / 3, -2 / 30, 0.8, 0.08]) * 2 * math.pi
    assert torch.allclose(second[:, 0, 4], first[:, 0, 4] * torch.polar(torch.ones(4), angle), atol=1e-5)


def test_heads_are_turned_alike():
    x = torch.randn(1, 8, 4, 4)
    assert torch.equal(AxialRope(16, 2, 100.0)(torch.cat([x, x], 1)), AxialRope(8, 1, 100.0)(x).repeat(1, 2, 1, 1))


def test_half_precision_stays_close(naf):
    half = NafUpsampler(dim=32, heads_attn=2, heads_rope=2).requires_grad_(False)
    half.load_state_dict(naf.state_dict())
    half.to(torch.bfloat16)
    guide, lr, points = picture(40), features(12), some_points()
    ours = half.at(guide, lr.bfloat16(), points, 24)
    assert ours.dtype == torch.bfloat16
    expected = naf.at(guide, lr, points, 24)
    assert F.cosine_similarity(ours.float().flatten(), expected.flatten(), dim=0) > 0.995


def test_the_released_network_has_the_released_tensors():
    with torch.device("meta"):
        state = NafUpsampler().state_dict()
    assert len(state) == 37
    assert sum(tensor.numel() for tensor in state.values()) == 662_544
    assert state["image_encoder.sem_encoder.2.conv1.weight"].shape == (128, 128, 3, 3)
    assert state["image_encoder.rope.periods"].shape == (16,)


@pytest.mark.parametrize(("cells", "size"), [(8, 16), (12, 9), (4, 64)])
def test_a_neighbourhood_that_does_not_fit_is_refused(naf, cells, size):
    message = f"{cells} cells cannot be up-sampled to {size} pixels with a neighbourhood of 9"
    with pytest.raises(UsageError, match=message):
        naf.at(picture(20), features(cells), some_points(), size)
    with pytest.raises(UsageError, match=message):
        naf.dense(picture(20), features(cells), size)


def test_numbers_that_do_not_divide_are_refused():
    with pytest.raises(UsageError, match="`dim` is 36; it must be a multiple of 4 x `heads_rope`"):
        NafUpsampler(dim=36)
    with pytest.raises(UsageError, match="`kernel_size` is 8; it must be odd"):
        NafUpsampler(kernel_size=8)
