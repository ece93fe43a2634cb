"""Weight files: they say how their network is built, and the package knows its own by their digests."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from scenegen import weights
from scenegen.errors import WeightsError
from scenegen.weights import file as weight_file
from scenegen.weights import generator_weights, perception_weights
from scenegen.weights.file import read_weights, write_weights
from scenegen.weights.record import RECORD, recorded_digest, write_record


@dataclass(frozen=True)
class Inner:
    scale: float = 1.0


@dataclass(frozen=True)
class Sizes:
    width: int = 3
    levels: tuple[int, ...] = (1, 2)
    inner: Inner = Inner()


class Net(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.layer = nn.Linear(sizes.width, sum(sizes.levels))


@given(st.integers(1, 9), st.lists(st.integers(1, 4), min_size=1, max_size=3), st.floats(-9, 9))
def test_a_file_builds_its_own_network(
    tmp_path_factory: pytest.TempPathFactory, width: int, levels: list[int], scale: float
) -> None:
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    sizes = Sizes(width, tuple(levels), Inner(scale))
    net = Net(sizes)
    write_weights(net, sizes, path, step="7")
    read = read_weights(path, Net, Sizes())
    assert read.sizes == sizes
    assert not read.training
    assert torch.equal(read.layer.weight, net.layer.weight.half().float())
    with safe_open(path, "pt") as file:
        assert file.metadata()["step"] == "7"


def test_a_file_that_states_nothing_has_the_settings_it_is_said_to_have(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_file({name: value.half() for name, value in Net(Sizes(width=5)).state_dict().items()}, path)
    assert read_weights(path, Net, Sizes(width=5)).sizes.width == 5
    with pytest.raises(WeightsError, match=r"of another shape: layer\.weight"):
        read_weights(path, Net, Sizes())


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ('{"width": 3, "levels": [1, 2], "inner": {"scale": 1.0}, "more": 1}', "differ in more"),
        ('{"width": 3, "levels": [1, 2], "inner": {"scale": 1.0, "more": 1}}', r"differ in inner\.more"),
        ('{"levels": [1, 2], "inner": {"scale": 1.0}}', "differ in width"),
        ('{"width": "3", "levels": [1, 2], "inner": {"scale": 1.0}}', "fit no network of this version"),
        ("[]", "fit no network of this version"),
        ("", "fit no network of this version"),
    ],
)
def test_settings_are_read_strictly(tmp_path: Path, stated: str, message: str) -> None:
    path = tmp_path / "net.safetensors"
    save_file(Net(Sizes()).state_dict(), path, {weight_file.SETTINGS: stated})
    with pytest.raises(WeightsError, match=message):
        read_weights(path, Net, Sizes())


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package's weights, small, in a folder of their own with their record."""
    write_weights(Net(Sizes()), Sizes(), tmp_path / "perception.safetensors")
    write_weights(Net(Sizes(width=4)), Sizes(width=4), tmp_path / "generator.safetensors")
    write_record(tmp_path)
    monkeypatch.setattr(weights, "PERCEPTION", tmp_path / "perception.safetensors")
    monkeypatch.setattr(weights, "GENERATOR", tmp_path / "generator.safetensors")
    return tmp_path


@given(st.data())
def test_one_flipped_bit_is_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("package")
    path = folder / "net.safetensors"
    write_weights(Net(Sizes()), Sizes(), path)
    write_record(folder)
    recorded_digest(path)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    for use in (recorded_digest, lambda path: read_weights(path, Net, Sizes())):
        with pytest.raises(WeightsError, match="damaged or was replaced") as refused:
            use(path)
        assert refused.value.exit_code == 4


@pytest.mark.usefixtures("package")
def test_a_stage_learns_of_damage_before_it_looks_for_a_result(package: Path) -> None:
    assert perception_weights() == {"perception": recorded_digest(package / "perception.safetensors")}
    shutil.copyfile(package / "perception.safetensors", package / "generator.safetensors")
    perception_weights()
    with pytest.raises(WeightsError, match=r"generator\.safetensors have sha256 .* run `python -m scenegen.weights`"):
        generator_weights()


@pytest.mark.parametrize("record", [None, "", "x", "00 a b"])
def test_without_its_record_no_weight_file_is_used(package: Path, record: str | None) -> None:
    if record is None:
        (package / RECORD).unlink()
    else:
        (package / RECORD).write_text(record)
    with pytest.raises(WeightsError, match="install the package again"):
        perception_weights()


def test_new_weights_bring_the_record_up_to_date(package: Path) -> None:
    before = generator_weights()
    write_weights(Net(Sizes(width=6)), Sizes(width=6), package / "generator.safetensors")
    assert generator_weights() != before
    assert read_weights(package / "generator.safetensors", Net, Sizes()).sizes.width == 6


def test_the_record_of_the_package_is_that_of_its_files(tmp_path: Path) -> None:
    folder = weights.PERCEPTION.parent
    shutil.copytree(folder, tmp_path / "copy")
    assert (folder / RECORD).read_bytes() == write_record(tmp_path / "copy").read_bytes()
    named = {line.split()[1] for line in (folder / RECORD).read_text().splitlines()}
    assert named == {path.name for path in folder.glob("*.safetensors")}
