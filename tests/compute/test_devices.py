"""Which devices a run may use, asked without torch in this process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scenegen.compute import devices as module
from scenegen.compute.devices import devices, process_devices
from scenegen.compute.runtime import Runtime


@pytest.mark.parametrize(
    ("device", "expected"), [("cpu", ["cpu"]), ("cuda", ["cuda:0"]), ("cuda:1", ["cuda:1"]), ("mps", ["mps"])]
)
def test_a_named_device_is_itself(device: str, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUERY", "raise SystemExit('not to be asked')")
    assert devices(Runtime(device=device)) == expected


@pytest.mark.parametrize(
    ("answer", "expected"), [("2 0", ["cuda:0", "cuda:1"]), ("1 1", ["cuda:0"]), ("0 1", ["mps"]), ("0 0", ["cpu"])]
)
def test_auto_takes_every_card(
    answer: str, expected: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "DRIVERS", (tmp_path,))
    monkeypatch.setattr(module, "QUERY", f"print({answer!r})")
    assert devices(Runtime()) == expected


@pytest.mark.parametrize("query", ["raise SystemExit(1)", "print('a banner')", "import time; time.sleep(60)"])
def test_a_torch_that_cannot_answer_is_told(
    query: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "DRIVERS", (tmp_path,))
    monkeypatch.setattr(module, "QUERY", query)
    monkeypatch.setattr(module, "QUERY_TIMEOUT_S", 0.5)
    assert devices(Runtime()) == ["cpu"]
    assert "using the CPU" in caplog.text


def test_torch_is_not_asked_without_torch_or_a_driver(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "QUERY", "raise SystemExit('not to be asked')")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(module, "DRIVERS", (tmp_path / "none",))
    assert devices(Runtime()) == ["cpu"]
    monkeypatch.setattr(module, "DRIVERS", (tmp_path,))
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert devices(Runtime()) == ["cpu"]
    assert not caplog.records


def test_the_question_is_one_torch_understands() -> None:
    pytest.importorskip("torch")
    cards, has_mps = module._ask_torch()
    assert cards >= 0
    assert has_mps in (True, False)


NETS = {"generate": {"net": "revision"}, "depth": {}}


@pytest.mark.parametrize(
    ("found", "weights", "isolate", "expected"),
    [
        (["cuda:0", "cuda:1"], NETS, False, ("cuda:0", "cuda:1")),
        (["cuda:0"], {"generate": {}}, False, ()),
        (["mps"], NETS, False, ("mps",)),
        (["cpu"], NETS, False, ()),
        (["cpu"], NETS, True, ("cpu", "cpu", "cpu")),
        (["cuda:0"], {}, True, ("cpu", "cpu", "cpu")),
    ],
)
def test_cards_get_processes_and_the_cpu_on_demand(
    found: list[str],
    weights: dict[str, dict[str, str]],
    isolate: bool,
    expected: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "devices", lambda runtime: found)
    assert process_devices(Runtime(), weights, isolate, 3) == expected
