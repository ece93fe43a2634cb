"""What a worker costs: the start of its process, and each job over the same stage run in this process.

    python benchmarks/worker.py [--jobs N] [--sleep-ms MS] [--json FILE]

A job is a stage that sleeps. It is timed as `run_stage` against a plain call, in turns, so the store counts in
neither; both write nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from scenegen.compute.runtime import Runtime
from scenegen.config import Settings
from scenegen.records import Record
from scenegen.store.store import Store
from stages.stage import Stage, Work
from stages.workers.device import run_stage
from stages.workers.worker import Worker


class Nap(Settings):
    seconds: float


class Slept(Record):
    job: int


def nap(job: int, *, config: Nap, work: Work) -> Slept:
    time.sleep(config.seconds)
    return Slept(job=job)


def main() -> None:
    """Measures on the CPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--sleep-ms", type=float, default=5.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    # By its importable name: the child cannot see this script's own.
    import worker as benchmark

    stage = Stage("nap", benchmark.Slept, benchmark.nap)
    config, here, there = benchmark.Nap(seconds=options.sleep_ms / 1000), [], []
    with tempfile.TemporaryDirectory() as folder:
        work = Work(Store(Path(folder)), Runtime(), Path(folder), stage.name, "0" * 64)
        worker = Worker("cpu", timeout_s=60)
        start = time.perf_counter()
        run_stage(worker, stage, (0,), config, work)
        first = time.perf_counter() - start
        for job in range(options.jobs):
            start = time.perf_counter()
            stage.run(job, config=config, work=work)
            middle = time.perf_counter()
            run_stage(worker, stage, (job,), config, work)
            here.append(middle - start)
            there.append(time.perf_counter() - middle)
        worker.kill()
    cost = sorted(1000 * (remote - plain) for plain, remote in zip(here, there, strict=True))
    result = {
        "jobs": options.jobs,
        "first_job_ms": round(1000 * first, 1),
        "median_ms_per_job": round(statistics.median(cost), 3),
        "p95_ms_per_job": round(cost[int(0.95 * len(cost))], 3),
    }
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
