"""Groups of options that several commands share."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from scenegen.errors import UsageError
from scenegen.messages.progress import log_json_to_stderr, set_verbosity

if TYPE_CHECKING:
    from scenegen.compute.runtime import Runtime
    from scenegen.config import Config


@Parameter(name="*")
@dataclasses.dataclass(frozen=True)
class LogOptions:
    """How much is logged."""

    verbose: Annotated[bool, Parameter(alias="-v")] = False
    """Log everything, with tracebacks."""
    quiet: Annotated[bool, Parameter(alias="-q")] = False
    """Log errors only."""
    log_json: bool = False
    """Log one JSON object per line, with run, image, stage and object."""

    def apply(self) -> None:
        """Sets the log's form and level."""
        if self.verbose and self.quiet:
            raise UsageError("--verbose and --quiet contradict each other; give one of them.")
        if self.log_json:
            log_json_to_stderr()
        set_verbosity(logging.DEBUG if self.verbose else logging.ERROR if self.quiet else logging.INFO)


@Parameter(name="*")
@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Where a run computes, and what it may reach."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    offline: bool = False
    """Never use the network."""
    prefect: bool = False
    """Run as a Prefect flow, as is done whenever PREFECT_API_URL is set."""
    isolate: bool = False
    """Make each object in its own process on the CPU too, so that one that runs out of memory harms no other."""

    def check(self) -> None:
        """Refuses an unknown device name."""
        from scenegen.compute.runtime import check_device

        check_device(self.device)

    def runtime(self, elsewhere: bool = False) -> Runtime:
        """The runtime asked for. Call it before anything reads the Hugging Face hub's variables.

        Args:
            elsewhere: whether the device may be another machine's.

        Raises:
            ResourceError: for a device that this machine does not have.
        """
        from scenegen.compute.devices import require_device
        from scenegen.compute.runtime import Runtime

        if self.offline:
            os.environ["HF_HUB_OFFLINE"] = "1"
        runtime = Runtime(device=self.device, offline=self.offline)
        if not elsewhere:
            require_device(runtime)
        return runtime

    def as_parameters(self) -> dict[str, Any]:
        """The same as parameters of a flow."""
        return {"device": self.device, "offline": self.offline, "isolate": self.isolate}

    def as_flow(self) -> bool:
        """Whether to run as a Prefect flow."""
        return self.prefect or bool(os.environ.get("PREFECT_API_URL"))


@Parameter(name="*")
@dataclasses.dataclass(frozen=True)
class SceneRunOptions(RunOptions):
    """Where a run over whole scenes computes."""

    jobs: int | None = None
    """Objects at once on the CPU; by default two per core, at most 4; with --isolate one per core."""
    ray: str | None = None
    """Make objects on a Ray cluster: auto, host:port, ray://host:port, or local. All its machines must be able to reach OUT."""

    def runtime(self, elsewhere: bool = False) -> Runtime:
        """As `RunOptions.runtime`; a cluster has its own devices."""
        return super().runtime(elsewhere or self.ray is not None)

    def check(self) -> None:
        """Refuses unknown devices, and options of which one would be ignored."""
        super().check()
        refuse_with_ray(self.ray, self.isolate)
        if self.ray is not None and self.as_flow():
            way = "--prefect" if self.prefect else "PREFECT_API_URL, which makes this a Prefect flow,"
            raise UsageError(f"--ray and {way} contradict each other; drop one of them.")
        self.workers()

    def workers(self) -> int:
        """How many objects to work on at once."""
        from scenegen.compute.runtime import MAX_AT_ONCE

        if self.jobs is not None and not 1 <= self.jobs <= MAX_AT_ONCE:
            raise UsageError(f"`jobs` is {self.jobs}; it must be at least 1 and at most {MAX_AT_ONCE}.")
        # Each computes with one thread and takes about 0.15 GB. In threads, more than there are cores: each waits for its
        # unwrapping, which is a process, and for the others.
        cores = os.cpu_count() or 1
        return self.jobs or min(4, cores if self.isolate else 2 * cores)


def refuse_with_ray(ray: str | None, isolate: bool) -> None:
    """Refuses `--isolate` with `--ray`: the cluster's workers are separate processes anyway."""
    if ray is not None and isolate:
        raise UsageError("--ray and --isolate contradict each other; drop one of them.")


def check_object(object_id: int, seed: int | None) -> None:
    """Refuses an object's id and seed that no object can have."""
    from scenegen.config import MAX_ID, MAX_SEED

    if not 1 <= object_id <= MAX_ID:
        raise UsageError(f"`object` is {object_id}; it must be at least 1 and at most {MAX_ID}.")
    if seed is not None and not 0 <= seed <= MAX_SEED:
        raise UsageError(f"`seed` is {seed}; it must be at least 0 and at most {MAX_SEED}.")


@Parameter(name="*")
@dataclasses.dataclass(frozen=True)
class ConfigOptions:
    """The configuration's sources."""

    preset: str | None = None
    """Name of a preset; `scenegen config presets` lists them."""
    config: Path | None = None
    """YAML file laid over the preset."""
    set_: Annotated[tuple[str, ...], Parameter(name="--set")] = ()
    """One setting, as a.b=c; can be given several times."""
    export: str | None = None
    """More formats to write, separated by commas: obj, ply, stl, objects for one GLB per object, or what other packages bring."""

    def load(self, named: dict[str, Any] | None = None) -> Config:
        """The resolved configuration with the `named` options on top."""
        from scenegen.config import DEFAULT_PRESET, load_config

        preset = DEFAULT_PRESET if self.preset is None else self.preset
        formats = {} if self.export is None else {"export": {"formats": self.export.split(",")}}
        return load_config(preset, self.config, [*self.set_, formats, named or {}])


@Parameter(name="*")
@dataclasses.dataclass(frozen=True)
class InputOptions:
    """Files that belong to the photo. For several photos each is a folder with one entry per photo, named after it."""

    masks: Path | None = None
    """Objects: picture of ids, folder of pictures, one per object, .npy, .npz, or JSON of COCO, SAM or LabelMe."""
    depth: Path | None = None
    """Depth map: .npy, .npz, .exr, .png, .tif or .pfm."""
    depth_kind: str | None = None
    """What it holds: auto, z, distance (along the ray), disparity, inverse (1/metres), relative or points."""
    camera: Path | None = None
    """Camera: fx fy cx cy, transforms.json, COLMAP, glTF or USD. COLMAP and transforms.json may hold those of several photos."""
    meshes: Path | None = None
    """Folder of your own meshes, N.glb for object N (upright, Y up), each placed instead of a generated one."""


@Parameter(name="*")
@dataclasses.dataclass(frozen=True)
class PromptOptions:
    """Which objects to make, and no others. In pixels of the photo, turned upright; the top-left corner is 0,0."""

    box: tuple[str, ...] = ()
    """An object by the box around it: x0,y0,x1,y1. May be repeated."""
    point: tuple[str, ...] = ()
    """An object by a click on it: x,y. By several: "x,y x,y,0", where 0 marks a click beside the object. May be repeated."""
    find: str | None = None
    """Objects by what they are called: "mug, book, chair"."""

    def settings(self) -> dict[str, Any]:
        """The same as settings of the segmenter; empty if there are none.

        Raises:
            UsageError: if a text is not a prompt.
        """
        boxes = [_numbers(text, "box", "x0,y0,x1,y1", (4,)) for text in self.box]
        spelling = 'x,y or "x,y x,y,0"'
        points = [[_numbers(click, "point", spelling, (2, 3)) for click in text.split()] for text in self.point]
        if not all(points):
            raise UsageError(f"`point` is empty; give {spelling}.")
        find = [] if self.find is None else [name.strip() for name in self.find.split(",")]
        if not all(find):
            raise UsageError(
                f"`find` has {str(self.find)[:80]!r}; give nouns with commas between them: mug, book, chair."
            )
        return {name: values for name, values in (("boxes", boxes), ("points", points), ("find", find)) if values}


def scene_config(
    config_options: ConfigOptions,
    input_options: InputOptions,
    prompt_options: PromptOptions,
    *,
    single: bool,
    fov: float | None,
    seed: int | None,
) -> Config:
    """The configuration that the options of a scene come to.

    Args:
        config_options: sources of the configuration.
        input_options: the files that belong to the photo.
        prompt_options: which objects to make.
        single: whether there is one photo only.
        fov: horizontal field of view in degrees.
        seed: of everything random.

    Raises:
        UsageError: if a setting is not allowed, or no segmenter would answer the prompts.
    """
    if fov is not None and input_options.camera is not None:
        raise UsageError("--camera and --fov contradict each other; drop one of them.")
    named: dict[str, Any] = {} if fov is None else {"camera": {"fov_deg": fov}}
    if seed is not None:
        named["seed"] = seed
    if input_options.depth_kind is not None:
        named["read"] = {"depth_kind": input_options.depth_kind}
    config = config_options.load(named)
    prompts = prompt_options.settings()
    if not prompts:
        return config
    if "find" in prompts:
        if len(prompts) > 1:
            raise UsageError("--find and --box or --point contradict each other; drop one of them.")
        if not hasattr(config.segment, "find"):
            raise UsageError(
                f"--find needs a segmenter that knows things by name, which {config.segment.method!r} does not. Use --preset "
                "paper, or embedded for everyday nouns."
            )
        if input_options.masks is not None:
            raise UsageError("--masks and --find contradict each other; drop one of them.")
        return config_options.load({**named, "segment": prompts})
    if not hasattr(config.segment, "points"):
        raise UsageError(
            f"--box and --point need a segmenter that answers prompts, which {config.segment.method!r} does not. Use --preset "
            "embedded or pixal3d."
        )
    if input_options.masks is not None:
        raise UsageError("--masks and --box or --point contradict each other; drop one of them.")
    if not single:
        raise UsageError("--box and --point refer to pixels of one photo, but several were given; give one photo.")
    return config_options.load({**named, "segment": prompts})


def _numbers(text: str, option: str, spelling: str, counts: tuple[int, ...]) -> list[float]:
    """The comma-separated numbers of an option; whole ones as integers."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in counts or not all(map(math.isfinite, values)):
        raise UsageError(f"`{option}` has {text[:80]!r}; give {spelling}, in pixels.")
    return [int(value) if value.is_integer() else value for value in values]
