"""The parameters of the flows: what Prefect's form shows, checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from prefect.runtime import deployment
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from scenegen.compute.devices import devices, process_devices, require_device
from scenegen.compute.runtime import DEVICE, MAX_AT_ONCE, Runtime
from scenegen.config import DEFAULT_PRESET, MAX_SEED, Config, load_config, preset_names
from scenegen.errors import ResourceError, UsageError
from scenegen.inputs.options import InputOptions
from scenegen.messages.redaction import redacted_url, secret_in
from scenegen.store.folder import is_url, local_path, refuse_network, scheme
from stages.batch import Job, plan

MAX_CHUNK = 500
"""A run's parameters must stay below half a megabyte, the limit of the server."""
LONGEST_S = 30 * 24 * 3600.0


def without_secrets(place: str) -> str:
    """`place`, a path or URL, unless it contains a secret: the server keeps and shows parameters, logs and artifacts.

    Raises:
        ValueError: if a URL contains a password or a signature, which the message does not repeat.
    """
    if is_url(place):
        secret = secret_in(place)
        if secret:
            raise ValueError(
                f"the {scheme(place)}:// URL contains a {secret}; give it without, and put the credentials into the worker's "
                "environment (AWS_ACCESS_KEY_ID, FSSPEC_S3_KEY, ...) or profile."
            )
    return place


def _any_case(*words: str) -> str:
    """A pattern for any of the words. JSON schemas have no flag for it."""
    return "|".join("".join(f"[{char.upper()}{char}]" if char.isalpha() else char for char in word) for word in words)


_NAMES = (
    rf"{_any_case('signature', 'token', 'secret', 'password', 'passwd', 'passphrase', 'pwd', 'credential')}"
    rf"|(?:{_any_case('api', 'access', 'account', 'secret')})[_-]?{_any_case('key')}(?:[_-]?{_any_case('id')})?"
)
SECRET_FREE = (
    r"^(?![A-Za-z][A-Za-z0-9+.-]*://[^/]*:[^/]+@)"
    rf"(?![A-Za-z][A-Za-z0-9+.-]*://.*[?&](?:[\w-]*(?:{_NAMES})|{_any_case('sig')})=[^\s\"'&<>])"
)
"""In the schema of a place: a server refuses a URL with a secret before there is a run that would keep it. `without_secrets`
knows more ways to write one."""

Place = Annotated[str, AfterValidator(without_secrets), WithJsonSchema({"type": "string", "pattern": SECRET_FREE})]
"""A path, or a URL that fsspec knows."""


class Making(BaseModel):
    """How scenes are made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str = Field(DEFAULT_PRESET, title="Preset", json_schema_extra={"enum": [*preset_names()]})
    seed: int | None = Field(None, title="Seed", ge=0, le=MAX_SEED, description="Random seed; by default the preset's.")
    settings: dict[str, Any] = Field(
        default_factory=dict,
        title="Settings",
        description="Any part of the configuration, laid over the preset, such as {'read': {'max_side': 512}}.",
    )
    device: str = Field("auto", title="Device", pattern=f"^({DEVICE})$", description="auto, cpu, cuda, cuda:1 or mps.")
    require_card: bool = Field(
        False, title="Require a graphics card", description="Fail at once on a machine that has none."
    )
    offline: bool = Field(False, title="Offline", description="Never use the network.")
    isolate: bool = Field(
        True,
        title="Isolate",
        description="Make each object in its own process on the CPU too, as on graphics cards.",
    )

    def config(self) -> Config:
        """The resolved configuration.

        Raises:
            UsageError: for an unknown preset, or settings that do not exist.
        """
        overrides = [self.settings] if self.seed is None else [self.settings, {"seed": self.seed}]
        return load_config(self.preset, overrides=overrides)

    def runtime(self) -> Runtime:
        """Where to compute."""
        return Runtime(device=self.device, offline=self.offline)

    def devices(self, weights: Mapping[str, Mapping[str, str]], at_once: int = 1) -> tuple[str, ...]:
        """The devices of this machine on which stages get a process of their own, as `process_devices` says.

        Args:
            weights: weights in use, by stage.
            at_once: objects made at once on the CPU.

        Raises:
            ResourceError: if this machine does not have the device, or a card that is required.
            UsageError: for `isolate` on Windows.
        """
        runtime = self.runtime()
        require_device(runtime)
        if self.require_card and devices(runtime) == ["cpu"]:
            raise ResourceError(
                "a graphics card is required, but torch sees none on this machine. Start its worker on a machine with a card, "
                "check the driver with scenegen doctor, or run a deployment without -gpu in its name."
            )
        return process_devices(runtime, weights, self.isolate, at_once)

    def job(self, out: str, cache: str | None = None, several: bool = False) -> Job:
        """What a batch does to every photo, wherever it does it: the job names no devices yet.

        Args:
            out: folder or URL that gets one folder per photo.
            cache: where scenes are made when `out` is a URL.
            several: whether each scene is of several photos.

        Raises:
            UsageError: for an unknown preset, or settings that do not exist.
            WeightsError: if weights that the configuration names are missing.
        """
        return plan(out, self.config(), self.runtime(), None if cache is None else Path(cache), several)

    def here(self, job: Job) -> Job:
        """A job of `job`, for this machine and its devices.

        Raises:
            ResourceError: as `devices`.
        """
        return job.model_copy(update={"devices": self.devices(job.weights)})


class Shot(BaseModel):
    """One of several photos of a scene, with the files that belong to it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: Place = Field(title="Photo")
    masks: tuple[Place, ...] = Field(
        (), title="Masks", description="One file for all objects, or one picture per object."
    )
    depth: Place | None = Field(None, title="Depth map")
    camera: tuple[Place, ...] = Field(
        (),
        title="Camera",
        description="Its file, which may hold the cameras of all photos; with COLMAP's also that of its images.",
    )
    meshes: tuple[Place, ...] = Field(
        (), title="Meshes", description="N.glb of object N; of a scene of one photo only."
    )

    def places(self, prefix: str = "") -> dict[str, str | None]:
        """Every path and URL by the name of its parameter."""
        groups = {"masks": self.masks, "camera": self.camera, "meshes": self.meshes}
        listed = {f"{prefix}{name}[{n}]": place for name, places in groups.items() for n, place in enumerate(places)}
        return {f"{prefix}image": self.image, f"{prefix}depth": self.depth, **listed}


_ENTRIES = "Folder with one entry per photo, or per folder of several photos of a scene, named after it."


class FilesBeside(BaseModel):
    """Folders of files that belong to the photos of a batch. All workers must reach them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    masks: Place | None = Field(None, title="Masks", description=_ENTRIES)
    depth: Place | None = Field(None, title="Depth maps", description=_ENTRIES)
    camera: Place | None = Field(None, title="Cameras", description=_ENTRIES)
    meshes: Place | None = Field(None, title="Meshes", description=f"{_ENTRIES} Of scenes of one photo only.")

    def places(self) -> dict[str, str]:
        """Those that are given, by the names of their parameters."""
        return {f"files.{name}": place for name, place in self.model_dump(exclude_none=True).items()}

    def options(self) -> InputOptions:
        """The same as options of a command.

        Raises:
            UsageError: if one is a URL.
        """
        for name, place in self.places().items():
            if is_url(place):
                raise UsageError(f"`{name}` {redacted_url(place)} is a URL; give a folder that all workers can reach.")
        masks, depth, camera, meshes = (
            None if place is None else local_path(place) for place in (self.masks, self.depth, self.camera, self.meshes)
        )
        return InputOptions(masks=masks, depth=depth, camera=camera, meshes=meshes)


class ObjectLimits(BaseModel):
    """How many objects of one photo are made at once, and how long."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    objects_at_once: int = Field(
        1,
        title="Objects at once",
        ge=1,
        le=MAX_AT_ONCE,
        description="On the CPU; a graphics card takes one.",
    )
    object_timeout_s: float = Field(
        1800.0,
        title="Time limit of an object",
        gt=0,
        le=LONGEST_S,
        description="In seconds. After that its process is killed, if it has its own.",
    )


class PhotoLimits(BaseModel):
    """How many photos a run works on at once, how long and where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    photos_at_once: int | None = Field(
        None,
        title="Photos at once",
        ge=1,
        le=MAX_AT_ONCE,
        description="In one run, each in its own process; by default one per graphics card, else 1.",
    )
    photo_timeout_s: float = Field(
        3600.0,
        title="Time limit of a photo",
        gt=0,
        le=LONGEST_S,
        description="In seconds. After that its process is killed, and the photo fails. Waiting for a card does not count.",
    )
    cache: str | None = Field(
        None,
        title="Cache",
        description="Folder that scenes are made in when the output is a URL; by default in the worker's user cache.",
    )


class FanOut(BaseModel):
    """How a batch is spread over workers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    deployment: str | None = Field(
        None,
        title="Deployment",
        min_length=1,
        description="Deployment of photos-to-scenes whose workers make the scenes, such as photos-to-scenes-gpu; without "
        "one, the batch's own run makes them.",
    )
    chunk: int = Field(
        20,
        title="Photos per run",
        ge=1,
        le=MAX_CHUNK,
        description="At most; few photos are spread evenly over the runs in flight. Those of a run share its process and its "
        "loaded weights.",
    )
    in_flight: int = Field(
        4, title="Runs in flight", ge=1, le=1000, description="Runs that are scheduled or running at once."
    )
    tries: int = Field(3, title="Tries", ge=1, le=10, description="How often photos are tried if their run crashes.")
    pending_timeout_s: float = Field(
        600.0,
        title="Start-up limit",
        ge=30,
        le=LONGEST_S,
        description="Seconds after which a run that a worker has taken but not begun counts as crashed.",
    )


def check_places(offline: bool, **places: str | None) -> None:
    """Fails if a run could not use its paths and URLs: `offline` forbids URLs, and in a run of a deployment a relative
    path would lie in a folder that is deleted with the run.

    Raises:
        UsageError: if a path or URL cannot be used; the message names the parameter.
    """
    for name, place in places.items():
        if place is None:
            continue
        if is_url(place):
            if offline:
                refuse_network(place, name)
        elif deployment.id is not None and not local_path(place).is_absolute():
            raise UsageError(f"`{name}` is {place}; in a deployment it must be an absolute path or a URL.")
