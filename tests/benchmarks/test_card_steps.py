"""`benchmarks/steps.py`: whatever a step does, the others run, and what was found is kept."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from benchmarks.steps import run_steps

SCRIPT = """
import json, sys, time

def tell(*line):
    print(json.dumps(line), flush=True)

for step in sys.argv[1:]:
    tell(step, "found", 1)
    if step == "hangs":
        time.sleep(600)
    if step == "fails":
        raise RuntimeError("no kernel")
    if step == "dies":
        import os
        os.abort()
    tell(step, "took", 0.5)
"""
COMMAND = (sys.executable, "-S", "-c", SCRIPT)


@pytest.mark.parametrize(
    ("step", "said"),
    [("fails", "exit code 1: .*no kernel"), ("dies", "exit code -6"), ("hangs", "stopped after 3 s")],
)
def test_a_step_that_ends_badly_keeps_its_numbers_and_leaves_the_others(step: str, said: str, tmp_path: Path) -> None:
    limits = {"first": 60.0, step: 3.0 if step == "hangs" else 60.0, "last": 60.0}
    results = run_steps(COMMAND, limits, tmp_path, 9)
    assert results == json.loads((tmp_path / "card.json").read_text())
    done = {"found": 1, "took": 0.5}
    assert (results["first"], results["last"]) == (done, done)
    assert results[step].pop("found") == 1
    (failed,) = results[step].values()
    assert re.match(said, failed, re.DOTALL)


def test_what_has_no_time_is_left_out(tmp_path: Path) -> None:
    assert run_steps(COMMAND, {"first": 60.0}, tmp_path, 0) == {"first": {"left out": "no time"}}
    results = run_steps(COMMAND, {"hangs": 60.0, "last": 60.0}, tmp_path, 0.01)
    assert results["last"] == {"left out": "no time"}
    assert "failed" in results["hangs"]
