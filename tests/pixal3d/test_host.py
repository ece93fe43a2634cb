"""Weights in the machine's memory: in which order they are read, and how long they stay."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pixal3d.checkpoints import write_tree
from safetensors import safe_open

from scenegen.errors import WeightsError
from scenegen.pixal3d.host import HostWeights
from scenegen.pixal3d.residency import streaming
from scenegen.pixal3d.settings import USES, read_pipeline
from scenegen.pixal3d.weights import build_network, fill, load_network, tensor_file


@pytest.fixture(scope="module")
def stems(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tree")
    write_tree(folder)
    return dict(read_pipeline(folder)[1])


def host(stems: dict[str, Path], room: int, loaded: list[str] | None = None) -> HostWeights:
    made = HostWeights(stems, "released", pinned=False, room=room)
    if loaded is not None:
        load = made._load
        made._load = lambda name: loaded.append(name) or load(name)  # type: ignore[method-assign, func-returns-value]
    return made


def test_tensors_have_the_types_of_the_network(stems: dict[str, Path]) -> None:
    name = "shape_slat_flow_model_512"
    weights, network = host(stems, 0).take(name), build_network(stems[name])
    assert {key: value.dtype for key, value in weights.items()} == {
        key: value.dtype for key, value in network.state_dict().items()
    }
    with safe_open(tensor_file(stems[name]), "pt") as file:
        key = "blocks.0.mlp.mlp.0.weight"
        assert torch.equal(weights[key], file.get_tensor(key).bfloat16())


@pytest.mark.parametrize(("room", "reads"), [(2**40, len(set(USES))), (0, 2 * len(USES) + 1)])
def test_files_are_read_once_if_there_is_room(stems: dict[str, Path], room: int, reads: int) -> None:
    loaded: list[str] = []
    weights = host(stems, room, loaded)
    for name in (*USES, *USES):
        weights.take(name)
    weights._reader.shutdown()
    assert len(loaded) == reads
    assert weights.keeps_all == (room > 0)
    assert len(weights._read) == (len(set(USES)) if room else 2)


def test_the_network_used_next_is_read_meanwhile(stems: dict[str, Path]) -> None:
    loaded: list[str] = []
    weights = host(stems, 0, loaded)
    for name in USES[:4]:
        weights.take(name)
    weights._reader.shutdown()
    assert loaded == list(USES[:5])


def test_a_file_that_cannot_be_read_is_an_error_each_time(stems: dict[str, Path], tmp_path: Path) -> None:
    weights = host(stems, 0)
    weights._stems = {**stems, USES[0]: tmp_path / "gone"}
    for _ in range(2):
        with pytest.raises(WeightsError, match="gone"):
            weights.take(USES[0])


def test_blocks_are_streamed_from_it(stems: dict[str, Path]) -> None:
    name = "shape_slat_flow_model_512"
    weights = host(stems, 2**40).take(name)
    network, whole = build_network(stems[name]), load_network(stems[name])
    fill(network, weights.__getitem__, "cpu", without="blocks")
    n = 20
    coords = torch.cat([torch.zeros(n, 1), torch.randperm(8**3)[:n, None] // torch.tensor([64, 8, 1]) % 8], dim=1).int()
    tokens, voxels = torch.randn(1, 5, whole.cond_channels), torch.randn(n, whole.proj_in_channels)
    x, t = torch.randn(n, whole.in_channels), torch.tensor([500.0])
    with streaming(network.blocks, lambda index, key: weights[f"blocks.{index}.{key}"], torch.device("cpu")):
        streamed, resident = (flow.at(coords, tokens, voxels, product_bytes=2**20) for flow in (network, whole))
        for conditional in (True, False, True, False):
            assert torch.equal(streamed(x, t, conditional), resident(x, t, conditional))
    assert all(value.is_meta for value in network.blocks.state_dict().values())
