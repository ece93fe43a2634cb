"""Steps of a measurement in a process of their own, which is stopped where one hangs and begun again after one that fails.

On a card that nobody has run this on, anything may: a kernel hangs, a compiler is missing, an error leaves the device unusable.
None of it takes more than the time of one step, nor what was told before. Needs nothing but Python.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import Empty, Queue
from typing import IO, Any

DONE = "took"
"""Name of the last number of a step: its seconds."""
TAIL = 3000
"""Characters that are kept of what a failed step has printed."""
Results = dict[str, Any]


def run_steps(command: Sequence[str], limits: Mapping[str, float], out: Path, minutes: float) -> Results:
    """Runs `command` with the names of the steps behind it, and writes what it tells to `out`/card.json, line by line.

    Args:
        command: prints a line of JSON for each number: [step, name, number], of every step at last `DONE`.
        limits: the steps in their order, and the most seconds of each.
        out: also gets card.log, with what the command prints to stderr.
        minutes: for all steps together.
    """
    end = time.monotonic() + 60 * minutes
    results: Results = {}
    left = list(limits)
    with (out / "card.log").open("w+", encoding="utf-8") as log:
        while left and time.monotonic() < end:
            problem = _followed([*command, *left], left, limits, end, results, out, log)
            if problem:
                results.setdefault(left.pop(0), {})["failed"] = problem
    results |= {step: {"left out": "no time"} for step in left}
    _write(results, out)
    return results


def _followed(
    words: Sequence[str],
    left: list[str],
    limits: Mapping[str, float],
    end: float,
    results: Results,
    out: Path,
    log: IO[str],
) -> str:
    """Takes what one process tells, and takes its finished steps out of `left`; what is wrong with the first that remains."""
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)
    lines: Queue[str | None] = Queue()
    threading.Thread(target=_read, args=(child, lines), daemon=True).start()
    begun = time.monotonic()
    try:
        while left:
            until = min(begun + limits[left[0]], end)
            try:
                line = lines.get(timeout=max(0.0, until - time.monotonic()))
            except Empty:
                return f"stopped after {time.monotonic() - begun:.0f} s"
            if line is None:
                log.seek(0)
                return f"exit code {child.wait()}: {log.read()[-TAIL:]}"
            step, name, value = json.loads(line)
            results.setdefault(step, {})[name] = value
            _write(results, out)
            if name == DONE:
                left.remove(step)
                begun = time.monotonic()
        return ""
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _read(child: subprocess.Popen[str], lines: Queue[str | None]) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        lines.put(line)
    lines.put(None)


def _write(results: Results, out: Path) -> None:
    partial = out / "card.json.partial"
    partial.write_text(json.dumps(results, indent=1), encoding="utf-8")
    partial.replace(out / "card.json")
