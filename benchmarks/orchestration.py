"""What Prefect costs a batch: photos through a server, a worker and the runs that it starts.

    python benchmarks/orchestration.py [--photos 1000] [--chunk 50] [--in-flight 2] [--seconds 0.05] [--json FILE]

Server, worker and flows are the product's own, with a database of their own in a temporary folder; the stages are those of
benchmarks/growth.py, which sleep. All requests to the server pass a counter on their way. CPU seconds, which other work on the
machine changes little, and memory are those of all processes from the start of the server on, sampled once a second.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from growth import SECONDS, STAGES
from PIL import Image

ROOT = Path(__file__).parents[1]
REQUEST = re.compile(rb"(?:^|\r\n\r\n|\})(GET|POST|PUT|PATCH|DELETE) (/api/[^ ?]*)")
TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class Counting:
    """A proxy before the server that counts requests, by method and kind of thing."""

    def __init__(self, port: int) -> None:
        self.requests: Counter[str] = Counter()
        self._server_port = port
        self.port = 0
        self._ready = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()
        self._ready.wait()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._client, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await server.serve_forever()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            behind, ahead = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._pass(reader, ahead, count=True), self._pass(behind, writer, count=False))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if count:
                    for method, path in REQUEST.findall(data):
                        self.requests[f"{method.decode()} {path.decode().split('/')[2]}"] += 1
                writer.write(data)
                await writer.drain()
        writer.close()


class Watch:
    """CPU seconds and largest memory of the processes with a mark in their environment, by what they are."""

    def __init__(self, mark: str) -> None:
        self._mark = f"PREFECT_HOME={mark}\0"
        self._seconds: dict[tuple[str, int], float] = {}
        self.memory_mb: Counter[str] = Counter()
        self.history: list[tuple[float, Counter[str]]] = []
        """CPU seconds until then, by what the processes were."""
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._done.wait(1.0):
            for folder in Path("/proc").iterdir():
                with contextlib.suppress(OSError, ValueError):
                    if (
                        folder.name.isdecimal()
                        and self._mark in f"{(folder / 'environ').read_text(errors='replace')}\0"
                    ):
                        self._note(folder)
            self.history.append((time.time(), self._total()))

    def _total(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for (kind, _), seconds in self._seconds.items():
            total[kind] += seconds  # type: ignore[assignment]
        return total

    def _note(self, folder: Path) -> None:
        words = (folder / "cmdline").read_text().replace("\0", " ")
        kinds = {"server start": "server", "uvicorn": "server", "worker start": "worker", "workers.child": "photos"}
        kind = next((kind for part, kind in kinds.items() if part in words), "run")
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        self._seconds[kind, int(folder.name)] = (int(fields[11]) + int(fields[12])) / TICK
        self.memory_mb[kind] = max(self.memory_mb[kind], int(fields[21]) * os.sysconf("SC_PAGE_SIZE") // 1_000_000)

    def end(self) -> dict[str, float]:
        """CPU seconds by what the processes were."""
        self._done.set()
        self._thread.join()
        return {kind: round(seconds, 1) for kind, seconds in self._total().items()}


def measure(folder: Path, photos: int, chunk: int, in_flight: int, seconds: float) -> dict[str, Any]:
    """One batch of `photos` pictures, handed out to runs."""
    sys.path[:0] = [str(ROOT / "tests" / "flows")]
    from site_under_test import Deployment, until

    site = Deployment(folder, extra={SECONDS: str(seconds)})
    counting = Counting(site.port)
    clients = {"PREFECT_API_URL": f"http://127.0.0.1:{counting.port}/api"}
    path = (ROOT, ROOT / "benchmarks", ROOT / "tests" / "flows" / "deployed")
    site.extra |= {"PYTHONPATH": os.pathsep.join(map(str, path))}
    rng = np.random.default_rng(photos)
    for number in range(photos):
        Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8)).save(folder / "photos" / f"{number:05}.png")
    watch = Watch(site.marker)
    try:
        site.start_server()
        site.extra |= clients
        site.run("-m", "scenegen", "prefect-setup")
        project = str(ROOT / "prefect.yaml")
        for name in ("batch-scenes", "photos-to-scenes"):
            site.run("-m", "prefect", "--no-prompt", "deploy", "--name", name, "--prefect-file", project)
        site.start_worker()
        counting.requests.clear()
        values = {
            "source": str(folder / "photos"),
            "out": str(folder / "scenes"),
            "making": {"isolate": False},
            "fan_out": {"deployment": "photos-to-scenes", "chunk": chunk, "in_flight": in_flight},
        }
        begun = time.perf_counter()
        found = site.ask("GET", "/deployments/name/batch-scenes/batch-scenes")
        body = {"parameters": values, "state": {"type": "SCHEDULED"}}
        run = site.ask("POST", f"/deployments/{found['id']}/create_flow_run", body)
        done = until(lambda: _ended(site, run["id"]), "the batch has ended", 3600.0)
        wall = time.perf_counter() - begun
        requests = sum(counting.requests.values())
        used = watch.end()
        database = sum(file.stat().st_size for file in (folder / "home").glob("prefect.db*"))
        slept = photos * STAGES * seconds
        paces = [pace(site, run) for run in site.runs("photos-to-scenes")]
        photo_s = STAGES * seconds
        later_s = photo_s * sum(len(each.ends) - 1 for each in paces)
        return {
            "photos": photos,
            "photos_per_run": chunk,
            "runs_at_once": in_flight,
            "state": done,
            "wall_s": round(wall, 1),
            "stages_s": round(slept, 1),
            "orchestration_percent": round(
                100 * (1 - later_s / sum(each.ends[-1] - each.ends[0] for each in paces)), 2
            ),
            "start_of_a_run_s": round(statistics.median(each.ends[0] - each.asked for each in paces) - photo_s, 1),
            "requests_per_photo": round(requests / photos, 2),
            "requests": dict(counting.requests.most_common(12)),
            "cpu_s": used,
            "cpu_ms_per_further_photo": further(watch, sorted(end for each in paces for end in each.ends)),
            "memory_mb": dict(watch.memory_mb),
            "database_mb": round(database / 1e6, 2),
            "tables_mb": tables(folder / "home" / "prefect.db"),
        }
    finally:
        watch.end()
        site.stop()


class Pace(NamedTuple):
    """Of the photos of one run, one after another."""

    asked: float
    """When the batch asked for the run."""
    ends: list[float]
    """When each of its photos had its scene."""


def pace(site: Any, run: dict[str, Any]) -> Pace:
    """By when the scenes of `run` were published."""
    manifests = [site.folder / "scenes" / photo["name"] / "manifest.json" for photo in run["parameters"]["photos"]]
    ends = sorted(manifest.stat().st_mtime for manifest in manifests)
    return Pace(datetime.fromisoformat(run["created"]).timestamp(), ends)


def further(watch: Watch, ends: list[float]) -> dict[str, float]:
    """CPU milliseconds from the end of the first photo to that of the last, divided by the others: what the start of server,
    worker and batch costs is left out, what that of further runs costs is not."""
    (_, begun), *_ = (entry for entry in watch.history if entry[0] >= ends[0])
    *_, (_, done) = (entry for entry in watch.history if entry[0] <= ends[-1])
    return {kind: round(1000 * (done[kind] - begun[kind]) / (len(ends) - 1), 1) for kind in done}


def tables(database: Path) -> dict[str, float]:
    """The largest, with their indices, in MB."""
    query = """
        select tbl_name, sum(pgsize) / 1e6 from dbstat join sqlite_master on dbstat.name = sqlite_master.name
        group by tbl_name order by 2 desc limit 6
    """
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return {name: round(size, 2) for name, size in connection.execute(query)}


def _ended(site: Any, run: str) -> str | None:
    found = site.ask("GET", f"/flow_runs/{run}") or {}
    return found["state"]["message"] if found.get("state_type") in ("COMPLETED", "FAILED", "CRASHED") else None


def main() -> None:
    """Measures on this machine, which must have /proc."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--chunk", type=int, default=50)
    parser.add_argument("--in-flight", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.05, help="of each stage")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), options.photos, options.chunk, options.in_flight, options.seconds)
    text = json.dumps(result, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text)


if __name__ == "__main__":
    main()
