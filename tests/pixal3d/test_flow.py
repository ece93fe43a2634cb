from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from scenegen.errors import UsageError
from scenegen.pixal3d import block as block_module
from scenegen.pixal3d.attention import attend_ragged_plainly
from scenegen.pixal3d.flow import FlowTransformer, LatentFlow, StructureFlow, count_flops

TINY: dict[str, Any] = {
    "resolution": 3,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "cond_channels": 12,
    "num_blocks": 2,
    "num_heads": 2,
    "mlp_ratio": 2.5,
    "proj_in_channels": 10,
}
RELEASED: dict[str, Any] = {
    "model_channels": 1536,
    "cond_channels": 1024,
    "num_blocks": 30,
    "num_heads": 12,
    "mlp_ratio": 5.3334,
    "pe_mode": "rope",
    "share_mod": True,
    "initialization": "scaled",
    "qk_rms_norm": True,
    "qk_rms_norm_cross": True,
    "dtype": "bfloat16",
    "image_attn_mode": "proj",
}
STRUCTURE = RELEASED | {"resolution": 16, "in_channels": 8, "out_channels": 8}
SHAPE = RELEASED | {"resolution": 64, "in_channels": 32, "out_channels": 32, "proj_in_channels": 2048}
TEXTURE = SHAPE | {"in_channels": 64}


def randomised(flow: FlowTransformer) -> Any:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in flow.parameters():
            fan_in = parameter.shape[-1] if parameter.ndim == 2 else 4
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan_in**0.5)
    return flow.eval().requires_grad_(False)


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def voxels(seed: int, *lengths: int) -> torch.Tensor:
    """Different voxels of a 20^3 grid for each item."""
    generator = torch.Generator().manual_seed(seed)
    items = []
    for item, length in enumerate(lengths):
        index = torch.randperm(20**3, generator=generator)[:length]
        places = torch.stack([index // 400, index // 20 % 20, index % 20], dim=1)
        items.append(torch.cat([torch.full((length, 1), item), places], dim=1))
    return torch.cat(items).int()


def sparse_inputs(*lengths: int, seed: int = 1) -> tuple[torch.Tensor, ...]:
    n, b = sum(lengths), len(lengths)
    t = torch.linspace(900.0, 100.0, b)
    return drawn(seed, n, 4), voxels(seed, *lengths), t, drawn(seed + 1, b, 5, 12), drawn(seed + 2, n, 10)


def dense_inputs(b: int) -> tuple[torch.Tensor, ...]:
    return drawn(1, b, 4, 3, 3, 3), torch.linspace(900.0, 100.0, b), drawn(2, b, 5, 12), drawn(3, b, 27, 10)


def plain_velocity(
    w: dict[str, torch.Tensor], x: torch.Tensor, coords: torch.Tensor, t: float, *cond: torch.Tensor
) -> Any:
    """The network once more, as formulas over its weights, for one item."""
    n, heads = len(x), TINY["num_heads"]

    def linear(name: str, value: torch.Tensor) -> torch.Tensor:
        return value @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(value: torch.Tensor, eps: float) -> torch.Tensor:
        return (value - value.mean(1, keepdim=True)) / (value.var(1, keepdim=True, correction=0) + eps).sqrt()

    def silu(value: torch.Tensor) -> torch.Tensor:
        return value / (1 + (-value).exp())

    def heads_of(value: torch.Tensor, gamma: str | None) -> torch.Tensor:
        value = value.reshape(len(value), heads, -1)
        return value if gamma is None else value / value.square().mean(-1, keepdim=True).sqrt() * w[f"{gamma}.gamma"]

    def turned(value: torch.Tensor) -> torch.Tensor:
        out, per_axis = value.clone(), value.shape[-1] // 6
        for pair in range(3 * per_axis):
            axis, k = divmod(pair, per_axis)
            angle = (coords[:, 1 + axis].double() * 10000 ** (-k / per_axis))[:, None]
            a, b = value[..., 2 * pair], value[..., 2 * pair + 1]
            out[..., 2 * pair] = a * angle.cos() - b * angle.sin()
            out[..., 2 * pair + 1] = a * angle.sin() + b * angle.cos()
        return out

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        scores = torch.einsum("qhd,khd->hqk", q, k) / q.shape[-1] ** 0.5
        return torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).reshape(n, -1)

    cond_global, cond_proj = cond
    angles = t * 10000 ** (-torch.arange(128).double() / 128)
    time = linear("t_embedder.mlp.2", silu(linear("t_embedder.mlp.0", torch.cat([angles.cos(), angles.sin()]))))
    shared = linear("adaLN_modulation.1", silu(time))
    h = linear("input_layer", x)
    for i in range(TINY["num_blocks"]):
        at, cross = f"blocks.{i}", f"blocks.{i}.cross_attn.cross_attn_block"
        shift1, scale1, gate1, shift3, scale3, gate3 = (shared + w[f"{at}.modulation"]).chunk(6)
        q, k, v = linear(f"{at}.self_attn.to_qkv", norm(h, 1e-6) * (1 + scale1) + shift1).chunk(3, dim=1)
        q, k = (turned(heads_of(y, f"{at}.self_attn.{name}_rms_norm")) for y, name in ((q, "q"), (k, "k")))
        h = h + gate1 * linear(f"{at}.self_attn.to_out", attention(q, k, heads_of(v, None)))
        q = linear(f"{cross}.to_q", norm(h, 1e-6) * w[f"{at}.norm2.weight"] + w[f"{at}.norm2.bias"])
        k, v = linear(f"{cross}.to_kv", cond_global[0]).chunk(2, dim=1)
        q, k = heads_of(q, f"{cross}.q_rms_norm"), heads_of(k, f"{cross}.k_rms_norm")
        crossed = linear(f"{cross}.to_out", attention(q, k, heads_of(v, None)))
        h = h + crossed + linear(f"{at}.cross_attn.proj_linear", cond_proj)
        y = linear(f"{at}.mlp.mlp.0", norm(h, 1e-6) * (1 + scale3) + shift3)
        y = 0.5 * y * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (y + 0.044715 * y**3)))
        h = h + gate3 * linear(f"{at}.mlp.mlp.2", y)
    return linear("out_layer", norm(h, 1e-5))


def test_the_network_is_its_formulas() -> None:
    flow = randomised(LatentFlow(**TINY))
    x, coords, t, cond_global, cond_proj = sparse_inputs(11)
    weights = {name: value.double() for name, value in flow.state_dict().items()}
    doubled = (x.double(), coords, float(t[0]), cond_global.double(), cond_proj.double())
    expected = plain_velocity(weights, *doubled).float()
    torch.testing.assert_close(flow(x, coords, t, cond_global, cond_proj), expected, atol=1e-5, rtol=0)


def test_the_dense_flow_is_the_sparse_one_on_a_full_grid() -> None:
    dense = randomised(StructureFlow(**TINY))
    sparse = LatentFlow(**TINY)
    sparse.load_state_dict(dense.state_dict())
    x, t, cond_global, cond_proj = dense_inputs(2)
    places = torch.cartesian_prod(*[torch.arange(3)] * 3)
    coords = torch.cat([torch.cat([torch.full((27, 1), item), places], dim=1) for item in range(2)]).int()
    tokens = torch.stack([x[coords[i, 0], :, coords[i, 1], coords[i, 2], coords[i, 3]] for i in range(54)])
    v = sparse(tokens, coords, t, cond_global, cond_proj.flatten(0, 1))
    expected = dense(x, t, cond_global, cond_proj)
    for i in range(0, 54, 5):
        b, *place = coords[i].tolist()
        torch.testing.assert_close(v[i], expected[b, :, place[0], place[1], place[2]], atol=1e-5, rtol=1e-4)


def test_items_of_a_batch_do_not_see_each_other() -> None:
    flow = randomised(LatentFlow(**TINY))
    x, coords, t, cond_global, cond_proj = sparse_inputs(7, 12)
    together = flow(x, coords, t, cond_global, cond_proj)
    second = coords[7:].clone()
    second[:, 0] = 0
    first = flow(x[:7], coords[:7], t[:1], cond_global[:1], cond_proj[:7])
    last = flow(x[7:], second, t[1:], cond_global[1:], cond_proj[7:])
    torch.testing.assert_close(together, torch.cat([first, last]), atol=1e-5, rtol=1e-4)


def test_the_order_of_voxels_and_the_origin_do_not_matter() -> None:
    flow = randomised(LatentFlow(**TINY))
    x, coords, t, cond_global, cond_proj = sparse_inputs(15)
    v = flow(x, coords, t, cond_global, cond_proj)
    order = torch.randperm(15, generator=torch.Generator().manual_seed(3))
    moved = coords[order] + torch.tensor([0, 4, 9, 2], dtype=torch.int32)
    again = flow(x[order], moved, t, cond_global, cond_proj[order])
    torch.testing.assert_close(again, v[order], atol=2e-5, rtol=1e-4)


def test_places_matter() -> None:
    flow = randomised(LatentFlow(**TINY))
    x, coords, t, cond_global, cond_proj = sparse_inputs(15)
    v = flow(x, coords, t, cond_global, cond_proj)
    swapped = coords[:, [0, 3, 2, 1]].contiguous()
    assert (flow(x, swapped, t, cond_global, cond_proj) - v).abs().max() > 1e-3


def test_plain_attention_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = randomised(LatentFlow(**TINY))
    inputs = sparse_inputs(7, 12)
    expected = flow(*inputs)
    monkeypatch.setattr(
        block_module, "attend_ragged", lambda q, k, v, ql, kl, _: attend_ragged_plainly(q, k, v, ql, kl)
    )
    torch.testing.assert_close(flow(*inputs), expected, atol=1e-5, rtol=1e-4)


def test_chunks_of_queries_give_the_same() -> None:
    flow = randomised(LatentFlow(**TINY))
    inputs = sparse_inputs(7, 12)
    torch.testing.assert_close(flow(*inputs, score_bytes=300), flow(*inputs), atol=1e-5, rtol=1e-4)
    dense = randomised(StructureFlow(**TINY))
    grid = dense_inputs(2)
    torch.testing.assert_close(dense(*grid, score_bytes=2000), dense(*grid), atol=1e-5, rtol=1e-4)


def test_closed_gates_leave_the_ends_and_the_projected_feature() -> None:
    """With nothing but proj_linear open, each voxel's stream is its input plus its own mapped feature."""
    flow = randomised(LatentFlow(**TINY | {"num_blocks": 1}))
    block = flow.blocks[0]
    for module in (flow.adaLN_modulation[1], block.cross_attn.cross_attn_block.to_out):
        module.weight.zero_()
        module.bias.zero_()
    block.modulation.zero_()
    x, coords, t, cond_global, cond_proj = sparse_inputs(6)
    linear = block.cross_attn.proj_linear
    h = x @ flow.input_layer.weight.T + flow.input_layer.bias + cond_proj @ linear.weight.T + linear.bias
    h = (h - h.mean(1, keepdim=True)) / (h.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    expected = h @ flow.out_layer.weight.T + flow.out_layer.bias
    torch.testing.assert_close(flow(x, coords, t, cond_global, cond_proj), expected, atol=1e-5, rtol=1e-4)
    nothing = flow(x, coords, t, torch.zeros_like(cond_global), torch.zeros_like(cond_proj))
    linear.bias.zero_()
    unbiased = flow(x, coords, t, torch.zeros_like(cond_global), torch.zeros_like(cond_proj))
    assert (nothing - unbiased).abs().max() > 1e-3


@pytest.mark.parametrize("product_bytes", [None, 0, 2**20])
@pytest.mark.parametrize("lengths", [(9,), (7, 12)])
def test_the_steps_of_a_sampler_are_single_calls(lengths: tuple[int, ...], product_bytes: int | None) -> None:
    """What is kept from step to step changes nothing, and the unconditional velocity is that of zeros."""
    flow = randomised(LatentFlow(**TINY))
    x, coords, t, cond_global, cond_proj = sparse_inputs(*lengths)
    velocity = flow.at(coords, cond_global, cond_proj, product_bytes=product_bytes)
    for step in range(3):
        state = x + step
        expected = flow(state, coords, t, cond_global, cond_proj)
        nothing = flow(state, coords, t, torch.zeros_like(cond_global), torch.zeros_like(cond_proj))
        assert torch.equal(velocity(state, t, True), expected)
        torch.testing.assert_close(velocity(state, t, False), nothing, atol=1e-5, rtol=1e-4)


def test_what_is_kept_is_not_computed_again() -> None:
    flow = randomised(LatentFlow(**TINY))
    x, coords, t, cond_global, cond_proj = sparse_inputs(9)
    calls = []
    flow.blocks[1].cross_attn.proj_linear.register_forward_hook(lambda *_: calls.append(1))
    for room, expected in ((0, 3), (2**20, 1)):
        calls.clear()
        velocity = flow.at(coords, cond_global, cond_proj, product_bytes=room)
        for _ in range(3):
            velocity(x, t, True)
            velocity(x, t, False)
        assert len(calls) == expected


COMPILED = """
import torch
from torch._dynamo.testing import CompileCounter
from scenegen.pixal3d.flow import LatentFlow

torch.manual_seed(0)
config = dict(resolution=3, in_channels=4, out_channels=4, model_channels=32, cond_channels=12, num_blocks=2, num_heads=2)
flow, compiled, counter = LatentFlow(**config), LatentFlow(**config), CompileCounter()
compiled.load_state_dict(flow.state_dict())
compiled.compile_blocks(backend=counter)
with torch.inference_mode():
    for n in (11, 50):
        coords = torch.cat([torch.zeros(n, 1), torch.arange(n)[:, None] // torch.tensor([25, 5, 1]) % 5], dim=1).int()
        fixed = coords, torch.randn(1, 5, 12), torch.randn(n, 12)
        velocity, expected = compiled.at(*fixed, product_bytes=2**20), flow.at(*fixed)
        for conditional in (True, False, True, False):
            given = torch.randn(n, 4), torch.tensor([500.0]), conditional
            torch.testing.assert_close(velocity(*given), expected(*given), atol=1e-5, rtol=1e-4)
print(counter.frame_count)
"""


@pytest.mark.slow  # a process of its own: shapes that are checked at run time cannot be compiled
def test_blocks_are_compiled_once_for_all_blocks_and_numbers_of_tokens() -> None:
    """Four graphs: with and without the photo, at a first step and at a later one."""
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["4"]


def test_texture_takes_the_shape_latent_after_the_noise() -> None:
    flow = randomised(LatentFlow(**TINY | {"in_channels": 7}))
    x, coords, t, cond_global, cond_proj = sparse_inputs(6)
    shape = drawn(9, 6, 3)
    together = flow(torch.cat([x, shape], dim=1), coords, t, cond_global, cond_proj)
    assert torch.equal(flow(x, coords, t, cond_global, cond_proj, shape), together)


def test_a_time_embedding_begins_with_cosines() -> None:
    seen: list[torch.Tensor] = []
    flow = randomised(LatentFlow(**TINY))
    flow.t_embedder.mlp[0].register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    flow.t_embedder(torch.tensor([0.0, 500.0]))
    assert torch.equal(seen[0][0], torch.cat([torch.ones(128), torch.zeros(128)]))
    assert seen[0][1, 128].item() == pytest.approx(torch.tensor(500.0).double().sin().item(), abs=1e-5)


def test_gradients_reach_every_parameter() -> None:
    flow = randomised(LatentFlow(**TINY)).requires_grad_(True)
    flow(*sparse_inputs(7, 12)).square().sum().backward()
    assert [name for name, parameter in flow.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(
    ("kind", "config", "parameters"),
    [
        (StructureFlow, STRUCTURE, 1_339_411_976),
        (LatentFlow, SHAPE, 1_386_671_648),
        (LatentFlow, TEXTURE, 1_386_720_800),
    ],
)
def test_the_released_networks_have_their_released_sizes(
    kind: type[FlowTransformer], config: dict[str, Any], parameters: int
) -> None:
    with torch.device("meta"):
        flow = kind(**config)
    state = flow.state_dict()
    assert len(state) == 700
    assert sum(value.numel() for value in state.values()) == parameters
    assert state["blocks.29.mlp.mlp.0.weight"].shape == (8192, 1536)


def test_only_linear_layers_inside_blocks_are_cast() -> None:
    flow = LatentFlow(**TINY)
    flow.to_dtype(torch.bfloat16)
    half = {name for name, value in flow.state_dict().items() if value.dtype == torch.bfloat16}
    linear = {
        f"{name}.{part}"
        for name, module in flow.named_modules()
        for part in ("weight", "bias")
        if isinstance(module, nn.Linear) and name.startswith("blocks.")
    }
    assert half == linear
    assert {"blocks.0.modulation", "blocks.0.norm2.weight", "blocks.0.self_attn.q_rms_norm.gamma"}.isdisjoint(half)
    flow.to_dtype(torch.float32)
    assert all(value.dtype == torch.float32 for value in flow.state_dict().values())


def test_the_config_may_name_the_dtype() -> None:
    named = LatentFlow(**TINY | {"dtype": "bfloat16"})
    cast = LatentFlow(**TINY)
    cast.to_dtype(torch.bfloat16)
    assert {k: v.dtype for k, v in named.state_dict().items()} == {k: v.dtype for k, v in cast.state_dict().items()}


def test_bfloat16_blocks_give_nearly_the_same_in_float32() -> None:
    flow = randomised(LatentFlow(**TINY))
    inputs = sparse_inputs(30, 40)
    exact = flow(*inputs)
    flow.to_dtype(torch.bfloat16)
    rounded = flow(*inputs)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    assert torch.cosine_similarity(rounded.flatten(), exact.flatten(), dim=0) > 0.999


def test_the_phases_of_the_grid_are_what_released_files_hold() -> None:
    phases = StructureFlow(**TINY).rope_phases
    assert phases.dtype == torch.complex64
    assert phases.shape == (27, 8)
    x, y, z = 2, 0, 1
    row = phases[(x * 3 + y) * 3 + z]
    torch.testing.assert_close(row[0], torch.polar(torch.tensor(1.0), torch.tensor(2.0)))
    torch.testing.assert_close(row[[2, 4, 6, 7]].angle(), torch.tensor([0.0, 1.0, 0.0, 0.0]))


@pytest.mark.parametrize("tokens", [1, 27, 64])
def test_flops_are_those_torch_counts(tokens: int) -> None:
    flow = randomised(LatentFlow(**TINY))
    inputs = sparse_inputs(tokens)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        flow(*inputs)
    assert count_flops(TINY, tokens) == counter.get_total_flops()


def test_flops_of_a_released_flow_are_2_p_n_and_the_attention() -> None:
    """P: the weights every voxel meets, all but those of time and of the global tokens."""
    with torch.device("meta"):
        flow = LatentFlow(**TEXTURE)
    met = sum(
        value.numel()
        for name, value in flow.named_parameters()
        if value.ndim == 2 and "rms_norm" not in name and not any(p in name for p in ("t_embedder", "adaLN", "to_kv"))
    )
    expected = 2 * met * 20_000 + 4 * 20_000**2 * 1536 * 30
    assert count_flops(TEXTURE, 20_000) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pe_mode": "ape"}, r"`pe_mode` is 'ape'; allowed: 'rope'"),
        ({"share_mod": False}, r"`share_mod` is False; allowed: True"),
        ({"image_attn_mode": "cross"}, r"`image_attn_mode` is 'cross'"),
        ({"dtype": "int8"}, r"`dtype` is 'int8'; allowed: 'float32', 'bfloat16', 'float16'"),
        ({"num_blocks": 0}, r"`num_blocks` is 0"),
        ({"num_heads": 3}, r"`model_channels` is 32 with `num_heads` 3"),
    ],
)
def test_other_networks_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LatentFlow(**TINY | change)


def test_unknown_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="window_size"):
        LatentFlow(**TINY, window_size=8)


def test_other_weights_are_refused() -> None:
    flow = StructureFlow(**TINY)
    with pytest.raises(RuntimeError, match="rope_phases"):
        flow.load_state_dict(flow.state_dict() | {"rope_phases": flow.rope_phases})


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, torch.zeros(6, 3), r"`x` has 3 channels and `concat` 0; this network takes 4"),
        (1, voxels(0, 3, 3), r"`coords` names items in the order \[0, 1\]; give 1 items"),
        (3, torch.zeros(1, 5, 11), r"`cond_global` has 11 channels; this network takes 12"),
        (4, torch.zeros(6, 20), r"`cond_proj` has 20 channels; this network takes 10"),
    ],
)
def test_sparse_inputs_that_do_not_fit_are_refused(position: int, value: torch.Tensor, message: str) -> None:
    inputs = list(sparse_inputs(6))
    inputs[position] = value
    with pytest.raises(UsageError, match=message):
        LatentFlow(**TINY)(*inputs)


def test_items_torn_apart_are_refused() -> None:
    x, coords, t, cond_global, cond_proj = sparse_inputs(3, 3)
    torn = coords[[0, 3, 1, 2, 4, 5]]
    with pytest.raises(UsageError, match=r"order \[0, 1, 0, 1\]"):
        LatentFlow(**TINY)(x, torn, t, cond_global, cond_proj)


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, torch.zeros(2, 4, 5, 5, 5), r"`x` is \(2, 4, 5, 5, 5\).*this network takes \[2, 4, 3, 3, 3\]"),
        (3, torch.zeros(2, 26, 10), r"`cond_proj` is \(2, 26, 10\).*give \[2, 27, 10\]"),
    ],
)
def test_dense_inputs_that_do_not_fit_are_refused(position: int, value: torch.Tensor, message: str) -> None:
    inputs = list(dense_inputs(2))
    inputs[position] = value
    with pytest.raises(UsageError, match=message):
        StructureFlow(**TINY)(*inputs)
