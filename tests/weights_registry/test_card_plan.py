"""The plan for one graphics card: by arithmetic, the same that a run follows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.card import RELEASED
from scenegen.cli import commands
from scenegen.compute.residency import RESIDENCIES, USABLE, Demand
from scenegen.config import load_config
from scenegen.pixal3d.dino import VITL16, Dinov3
from scenegen.pixal3d.host import size_of
from scenegen.pixal3d.weights import build
from scenegen.weights_registry import registered
from scenegen.weights_registry.card_plan import CARDS, Step, card_plan
from scenegen.weights_registry.editors import QWEN_DEMAND, QWEN_EDIT_NAME, SDXL_INPAINTING_NAME, sdxl_demand
from scenegen.weights_registry.pixal3d import DECODERS_GB, DINOV3_GB, FLOWS_GB

PRESETS = ("paper", "pixal3d", "low-memory")
sizes = st.floats(0.01, 60)


@given(st.lists(sizes, min_size=1, max_size=4), sizes, st.floats(0, 0.5), st.floats(0, 20), sizes, sizes)
def test_a_larger_card_never_keeps_less(
    networks: list[float], working: float, share: float, guest: float, card: float, more: float
) -> None:
    demand = Demand(tuple(networks), working, share * max(networks), guest)
    small, large = (demand.fitting(size) for size in (card, card + more))
    assert RESIDENCIES.index(large) <= RESIDENCIES.index(small)
    assert demand.peak(small) <= USABLE * card or small == "streamed"
    assert [demand.peak(each) for each in RESIDENCIES] == sorted(map(demand.peak, RESIDENCIES), reverse=True)


def test_weights_are_those_of_the_released_networks() -> None:
    built = [build(*entry) for entry in RELEASED.networks.values()]
    with torch.device("meta"):
        dino = Dinov3(VITL16)
    found = sorted(size_of(network) / 1e9 for network in (*built, dino))
    assert sorted((*FLOWS_GB, *DECODERS_GB, DINOV3_GB)) == pytest.approx(found, abs=0.006)
    for demand, name in ((QWEN_DEMAND, QWEN_EDIT_NAME), (sdxl_demand(1024), SDXL_INPAINTING_NAME)):
        assert sum(demand.networks) + demand.guest == pytest.approx(registered(name).gigabytes, abs=0.05)


def test_every_preset_fits_the_card_that_it_is_for() -> None:
    for preset, card in (("low-memory", 8), ("pixal3d", 16), ("paper", 16)):
        assert [step.stage for step in card_plan(load_config(preset), card) if not step.fits] == []
    assert card_plan(load_config("embedded"), 8) == ()


def cell(step: Step) -> str:
    guest = f", reader on the {step.guest}" if step.guest else ""
    return f"{step.residency}{guest}: {step.peak:.1f}" + ("" if step.fits else ", too much")


def test_the_page_shows_the_plan() -> None:
    """docs/gpu.md has a row for each preset and card."""
    page = (Path(__file__).parents[2] / "docs" / "gpu.md").read_text()
    told = re.findall(r"^\| `([a-z0-9-]+)` \| (\d+) GB \| (.*?) \| (.*?) \|$", page, re.MULTILINE)
    expected = []
    for preset in PRESETS:
        for card in CARDS:
            steps = {step.stage: step for step in card_plan(load_config(preset), card)}
            complete = cell(steps["complete"]) if "complete" in steps else ""
            expected.append((preset, str(card), complete, cell(steps["generate"])))
    assert told == expected


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["models", "plan", "--preset", "paper", "--card", "24"]) == 0
    said = capsys.readouterr().out
    assert [line.split()[0:3] for line in said.splitlines() if "24 GB" in line][-1] == ["24", "GB", "generate"]
    assert "staged" in said
    assert commands.main(["models", "plan", "--preset", "pixal3d", "--card", "8"]) == 0
    assert "too much" in capsys.readouterr().out
    assert commands.main(["models", "plan"]) == 0
    assert "none of its networks" in capsys.readouterr().out
