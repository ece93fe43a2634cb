"""Ten minutes of a graphics card: Pixal3D measured, then both embedded networks trained side by side, on a bare machine.

    pip download --only-binary=:all: --no-deps -d WHEELS ...                         what the machine lacks, here
    python benchmarks/gpu.py pack --wheels WHEELS --golden DIR --out PACK            to measure alone
    python benchmarks/gpu.py pack --wheels WHEELS [--golden DIR] --photographs DIR --scenes DIR --meshes DIR --out PACK
    cat PACK.?? | tar xz && python benchmarks/gpu.py run --minutes 9 --out OUT       on the machine: training alone
    python benchmarks/gpu.py measure --minutes 9 --out OUT [--golden DIR] [--train] or measuring, then training
    python benchmarks/gpu.py join OUT                                              afterwards

`measure` writes OUT/card.json after each number that a step of `benchmarks/card.py` finds; a step that hangs is stopped, and one
that fails leaves the others (`benchmarks/steps.py`). With `--train` the minutes left go to training.

The machine needs Python 3.12, torch 2.11, numpy, scipy, OpenCV, safetensors and jaxtyping. WHEELS are what else is imported:
pydantic, pydantic-core, annotated-types, typing-inspection, platformdirs, embreex, manifold3d, fast-simplification, xatlas, and
cyclopts with attrs, docstring-parser, docutils, rich and rich-rst.

The archive, cut into parts that are easily carried, holds the code and these wheels (used where they lie; nothing is installed),
and as they are given the stored cases of the reference, reduced photographs and scenes, the meshes, and the ImageNet weights to
start from: 56 MB to measure, with the stored cases. `run` renders more pictures on the processor's cores while it trains, and
leaves the newest weights in OUT, in parts of at most 15 MB, as it goes: whatever ends it early, the last ones are there.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.steps import run_steps  # noqa: E402  (this file is run by its path)

CODE = ("scenegen", "stages", "benchmarks", "configs", "pyproject.toml")
PART = 15_000_000
"""Bytes of the parts of the weights."""
CARRIED = 40_000_000
"""Bytes of the parts of the archive."""
NETWORKS = ("perception", "generator")
POLL_S = 5.0
GRACE_S = 60.0
"""How long after its time a training may take to end on its own."""
LIMITS_S = {
    "ceilings": 60,
    "cascade": 120,
    "numerics": 160,
    "residencies": 150,
    "objects": 150,
    "kernels": 60,
    "block": 150,
    "convolution": 60,
    "weights": 90,
    "cpu_stages": 120,
}
"""The steps of `benchmarks/card.py`, what is wanted most first, and the most seconds of each."""
TRY = ("--batch", 64, "--pool", 2000, "--judged", 12, "--least", 32)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    pack = commands.add_parser("pack")
    for name in ("wheels", "out"):
        pack.add_argument(f"--{name}", type=Path, required=True)
    for name in ("photographs", "scenes", "meshes"):
        pack.add_argument(f"--{name}", type=Path, help="to train with; all three or none")
    pack.add_argument("--golden", type=Path, help="stored cases of the reference, to be compared on the card")
    run = commands.add_parser("run")
    run.add_argument("--minutes", type=float, required=True, help="all preparation counted in")
    run.add_argument("--out", type=Path, required=True)
    run.add_argument("--device", default="cuda")
    run.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 3), help="rendering processes")
    run.add_argument("--batch", type=int, default=48, help="pictures of each step of the perception network")
    run.add_argument("--crops", type=int, default=64)
    run.add_argument("--samples", type=int, default=64, help="of each step of the generator")
    run.add_argument("--rate", type=float, default=1.0, help="factor on the perception network's learning rates")
    for name in NETWORKS:
        run.add_argument(f"--{name}", type=Path, help="weights to go on from, carried beside the archive")
    run.add_argument("--views", type=int, default=1, help="most views of an object that the generator is shown")
    run.add_argument("--cache", type=Path, help="folder for signed distances, to be used again")
    run.add_argument("--tried", action="store_true", help="a short try: the generator begins with few samples")
    run.add_argument("--float32", action="store_true", help="train the perception network without bfloat16")
    run.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    card = commands.add_parser("measure", parents=[run], add_help=False)
    card.add_argument("--golden", type=Path, help="stored cases of the reference, to be compared on the card")
    card.add_argument(
        "--steps", nargs="+", default=list(LIMITS_S), choices=LIMITS_S, help="what is measured, in this order"
    )
    card.add_argument("--train", action="store_true", help="train with the minutes left")
    card.add_argument("--tiny", action="store_true", help="a dry run that measures nothing of worth")
    commands.add_parser("join").add_argument("out", type=Path)
    options = parser.parse_args()
    if options.command == "pack":
        return make_archive(options)
    if options.command == "join":
        return join(options.out)
    if options.command == "measure":
        return measure(options)
    return train(options)


def make_archive(options: argparse.Namespace) -> int:
    """Everything the machine needs, as one file."""
    with tempfile.TemporaryDirectory() as folder:
        data, whole = Path(folder) / "data", Path(folder) / "archive.tar.gz"
        data.mkdir()
        if options.photographs:
            for name in ("photographs", "scenes"):
                packed("pack-pictures", "data", getattr(options, name), data / f"{name}.zip")
            packed("pack-meshes", "meshes", options.meshes, data / "meshes.bin")
            pack_trunk(data / "trunk")
        with tarfile.open(whole, "w:gz", compresslevel=6) as archive:
            for name in CODE:
                archive.add(ROOT / name, name, filter=wanted)
            archive.add(data, "data")
            archive.add(options.wheels, "wheels")
            if options.golden:
                archive.add(options.golden, "golden")
        options.out.parent.mkdir(parents=True, exist_ok=True)
        copy_parts(whole, options.out.parent, options.out.name, CARRIED)
        print(f"{options.out}: {whole.stat().st_size / 1e6:.1f} MB")
    return 0


def packed(command: str, option: str, source: Path, out: Path) -> None:
    """Packs a folder; what is packed already is copied."""
    if source.is_file():
        shutil.copy(source, out)
        return
    trainer = [sys.executable, "-m", "scenegen.train", command]
    subprocess.run([*trainer, f"--{option}", source, "--out", out], cwd=ROOT, check=True)


def wanted(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """The code without what is compiled, and without weights."""
    return None if "__pycache__" in entry.name or entry.name.endswith(".safetensors") else entry


def pack_trunk(folder: Path) -> None:
    """The package of the trunk's ImageNet weights, its convolutions in half precision and without its classifier."""
    import torch

    from scenegen.train.imagenet import CLASSIFIER, PACKAGE, imagenet_file

    variant = "lite2"
    released = torch.load(imagenet_file(variant), map_location="cpu", weights_only=True)
    kept = {
        name: value.half() if value.ndim == 4 else value
        for name, value in released.items()
        if not name.startswith(CLASSIFIER)
    }
    package = folder / PACKAGE.format(variant=variant)
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    torch.save(kept, package / "models" / f"{variant}.pth")


def unpacked(folder: Path) -> Path:
    """The wheels that were carried, where Python finds them."""
    for wheel in sorted((ROOT / "wheels").glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    return folder


def measure(options: argparse.Namespace) -> int:
    """Every step of `benchmarks/card.py`, then training if it is wanted and a minute is left."""
    start = time.perf_counter()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="scenegen-gpu-") as site:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(unpacked(Path(site)))])
        command = [sys.executable, "-m", "benchmarks.card", "--device", options.device]
        command += [
            *(["--tiny"] if options.tiny else []),
            *(["--golden", str(options.golden)] if options.golden else []),
        ]
        run_steps(command, {step: LIMITS_S[step] for step in options.steps}, options.out, options.minutes)
    print((options.out / "card.json").read_text())
    options.minutes -= (time.perf_counter() - start) / 60
    return train(options) if options.train and options.minutes > 1 else 0


def train(options: argparse.Namespace) -> int:
    """Both trainings at once; their weights and logs are copied out as they appear."""
    options.out.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="scenegen-gpu-"))
    site = unpacked(work / "site")
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{site}:{ROOT / 'data' / 'trunk'}",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    data = ROOT / "data"
    share = 2 * options.workers // 5 if len(options.networks) > 1 else 0
    arguments = {
        "perception": [
            *("--data", data / "photographs.zip", data / "scenes.zip"),
            *("--batch", options.batch, "--crops", options.crops, "--rate", options.rate),
            *([] if options.float32 else ["--bfloat16"]),
            *("--workers", options.workers - share),
            *(("--start", options.perception) if options.perception else ()),
        ],
        "generator": [
            *("--workers", share or options.workers, "--cache", options.cache or work / "solids"),
            *(("--start", options.generator) if options.generator else ()),
            *(TRY if options.tried else ("--batch", options.samples, "--pool", 40_000, "--judged", 192)),
            *("--rate", 1e-3, "--conditions", 2, "--reuse", 16, "--views", options.views),
        ],
    }
    running = {}
    for name in options.networks:
        command = [
            *(sys.executable, "-m", "scenegen.train", name),
            *("--meshes", data / "meshes.bin", "--device", options.device, "--minutes", options.minutes),
            *("--every", 15 if options.tried else 90, "--out", work / f"{name}.safetensors"),
            *arguments[name],
        ]
        log = (options.out / f"{name}.log").open("w")
        running[name] = subprocess.Popen(
            [str(part) for part in command], cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    copied: dict[str, float] = {}
    end = time.monotonic() + 60 * options.minutes + GRACE_S
    while True:
        if time.monotonic() > end:
            for process in running.values():
                process.kill()
                process.wait()
        ended = all(process.poll() is not None for process in running.values())
        for name in options.networks:
            weights = work / f"{name}.safetensors"
            if weights.exists() and weights.stat().st_mtime != copied.get(name):
                copied[name] = weights.stat().st_mtime
                copy_parts(weights, options.out, weights.name, PART)
        if ended:
            break
        time.sleep(POLL_S)
    for name, process in running.items():
        print(f"== {name}: exit {process.returncode}")
        print((options.out / f"{name}.log").read_text()[-3000:])
    shutil.rmtree(work, ignore_errors=True)
    return max(abs(process.returncode) for process in running.values())


def copy_parts(file: Path, out: Path, name: str, size: int) -> None:
    """Copies a file in parts, each of which appears whole."""
    content = file.read_bytes()
    for number, start in enumerate(range(0, len(content), size)):
        partial = out / "partial"
        partial.write_bytes(content[start : start + size])
        partial.replace(out / f"{name}.{number:02}")


def join(out: Path) -> int:
    """Puts the parts together."""
    for name in NETWORKS:
        parts = sorted(out.glob(f"{name}.safetensors.??"))
        if parts:
            (out / f"{name}.safetensors").write_bytes(b"".join(part.read_bytes() for part in parts))
            print(out / f"{name}.safetensors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
