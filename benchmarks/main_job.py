"""Wall time and peak memory of the main job, by stage.

    python benchmarks/main_job.py [PHOTO ...] [--masks MASKS] [--preset P] [--runs N] [--json FILE]

Each run is a fresh process on an empty store; then the same command once more on the full one. Peak memory is the largest
resident set of the process and, apart, of its largest child, as the operating system accounts them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

EXAMPLE = Path(__file__).parents[1] / "examples" / "table.jpg"
WORKER = """
import json, resource
from scenegen.__main__ import main
code = main()
own, child = (resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(json.dumps({"code": code, "own_mb": round(own), "largest_child_mb": round(child)}))
"""


def run(photo: Path, out: Path, extra: list[str]) -> dict[str, float]:
    """One process."""
    start = time.perf_counter()
    command = [sys.executable, "-c", WORKER, str(photo), "-o", str(out), "-q", *extra]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    report = json.loads(child.stdout.strip().splitlines()[-1])
    return {"seconds": round(seconds, 2), **report}


def main() -> None:
    """Measures every photo."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, nargs="*", default=[EXAMPLE])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--masks", type=Path)
    parser.add_argument("--preset")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    extra = ["--masks", str(options.masks)] if options.masks else []
    extra += ["--preset", options.preset] if options.preset else []
    results = {}
    for photo in options.photos:
        firsts, seconds, stages = [], [], defaultdict(list)
        for _ in range(options.runs):
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder)
                firsts.append(run(photo, out, extra))
                seconds.append(run(photo, out, extra)["seconds"])
                (manifest,) = out.glob("*/manifest.json")
                totals: dict[str, float] = defaultdict(float)
                entries = json.loads(manifest.read_text())
                for entry in entries["stages"]:
                    totals[entry["stage"]] += entry["seconds"]
                for name, value in totals.items():
                    stages[name].append(value)
        results[photo.name] = {
            "objects": len(entries["objects"]),
            "seconds_median": statistics.median(first["seconds"] for first in firsts),
            "second_run_seconds_median": statistics.median(seconds),
            "peak_mb": max(first["own_mb"] for first in firsts),
            "largest_child_mb": max(first["largest_child_mb"] for first in firsts),
            "stage_seconds_median": {name: round(statistics.median(values), 2) for name, values in stages.items()},
        }
        print(json.dumps({photo.name: results[photo.name]}, indent=1), flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
