"""Loading is strict: whatever is not exactly the released format is an error that names the tensor."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
import torch
from pixal3d.checkpoints import FLOW, NETWORKS, write_network
from safetensors.torch import load_file, save_file

from scenegen.errors import WeightsError
from scenegen.pixal3d.dino import VITL16
from scenegen.pixal3d.naf import NafUpsampler
from scenegen.pixal3d.weights import (
    CLASSES,
    NAF_RELEASED,
    build,
    build_network,
    image_config,
    load_network,
    load_weights,
)


@pytest.mark.parametrize("key", list(NETWORKS))
def test_a_released_file_fills_its_network(key: str, tmp_path: Path) -> None:
    stem, name, args = NETWORKS[key]
    write_network(tmp_path / stem, name, args, seed=3)
    stored = load_file(tmp_path / f"{stem}.safetensors")
    network = load_network(tmp_path / stem)
    assert not network.training
    for parameter, value in network.state_dict().items():
        assert value.device.type == "cpu"
        torch.testing.assert_close(value, stored[parameter].to(value.dtype))
    inside = {parameter.dtype for parameter in network.blocks.parameters()}
    assert torch.bfloat16 in inside or torch.float16 in inside
    full = load_network(tmp_path / stem, precision="float32")
    assert {parameter.dtype for parameter in full.parameters()} == {torch.float32}


def flow(folder: Path) -> Path:
    args = {**FLOW, "resolution": 4, "in_channels": 8, "out_channels": 8}
    write_network(folder / "flow", "SparseStructureFlowModel", args, seed=0)
    return folder / "flow"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: state.pop("out_layer.bias"), "missing.*out_layer.bias"),
        (lambda state: state.update({"blocks.7.extra": torch.zeros(2)}), "unexpected.*blocks.7.extra"),
        (lambda state: state.update({"input_layer.weight": torch.zeros(3, 3)}), "`input_layer.weight` has the shape"),
        (lambda state: state.update({"rope_phases": state["rope_phases"] + 1}), "`rope_phases` is not that of a grid"),
    ],
)
def test_other_tensors_are_refused_by_name(spoil: object, message: str, tmp_path: Path) -> None:
    stem = flow(tmp_path)
    state = load_file(tmp_path / "flow.safetensors")
    spoil(state)  # type: ignore[operator]
    save_file(state, tmp_path / "flow.safetensors")
    with pytest.raises(WeightsError, match=message):
        load_network(stem)
    with pytest.raises(WeightsError, match=message):
        build_network(stem)  # which reads no weights


def test_a_module_may_keep_what_it_has(tmp_path: Path) -> None:
    stem = flow(tmp_path)
    network = load_weights(build_network(stem), tmp_path / "flow.safetensors", without="blocks")
    for name, tensor in network.state_dict().items():
        assert tensor.is_meta == name.startswith("blocks.")


def test_an_image_network_has_the_released_sizes_but_for_those_its_config_names(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    assert image_config(weights, VITL16) == dict(VITL16)
    config = {"hidden_size": 32, "_attn_implementation": "somebody/kernels", "architectures": ["DINOv3ViTModel"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert image_config(weights, VITL16) == {**VITL16, "hidden_size": 32}
    for text in ("{", "[]"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(WeightsError, match="not a readable config"):
            image_config(weights, VITL16)


def test_the_released_arguments_of_naf_are_its_defaults() -> None:
    assert {name: value.default for name, value in inspect.signature(NafUpsampler).parameters.items()} == NAF_RELEASED


def test_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    stem = flow(tmp_path)
    with pytest.raises(WeightsError, match="not a readable config"):
        load_network(tmp_path / "nothing")
    (tmp_path / "flow.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0garbage")
    with pytest.raises(WeightsError, match="cannot be read"):
        load_network(stem)
    (tmp_path / "flow.json").write_text(json.dumps({"name": "Surprise", "args": {}}))
    with pytest.raises(WeightsError, match="Surprise"):
        load_network(stem)
    args = {**FLOW, "resolution": 4, "in_channels": 8, "out_channels": 8, "colour": 1}
    (tmp_path / "flow.json").write_text(json.dumps({"name": "SparseStructureFlowModel", "args": args}))
    with pytest.raises(WeightsError, match="colour"):
        load_network(stem)


def test_building_takes_no_memory() -> None:
    args = {**FLOW, "model_channels": 1536, "num_blocks": 30, "num_heads": 12, "in_channels": 32, "resolution": 64}
    network = build("ElasticSLatFlowModel", args)
    assert {parameter.device.type for parameter in network.parameters()} == {"meta"}
    assert set(CLASSES) >= {"SLatFlowModel", "ElasticSLatFlowModel"}
