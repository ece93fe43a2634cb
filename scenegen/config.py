"""The configuration: frozen models, presets from `configs/*.yaml`, and `a.b=c` overrides.

Precedence, strongest first: `--set` and the named options, `--config` file, preset, the defaults below.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    SerializeAsAny,
    ValidationError,
    model_validator,
)

from scenegen.compute.residency import AskedResidency
from scenegen.errors import UsageError, one_line
from scenegen.messages.spelling import did_you_mean
from scenegen.records import MAX_PIXEL, ObjectId, Place
from scenegen.registry import (
    CAMERA_ESTIMATORS,
    COMPLETERS,
    DEPTH_ESTIMATORS,
    EXPORTERS,
    MATCHERS,
    OBJECT_GENERATORS,
    SEGMENTERS,
)
from scenegen.untrusted.documents import MAX_CHARACTERS, MAX_DEPTH, parse_yaml

DEFAULT_PRESET = "embedded"
MAX_LINES = 16
MAX_SEED = 2**53 - 1
"""Larger integers are not exact in every reader of JSON."""
MAX_ID = 2**16 - 1
"""Largest id of an object: masks have 16 bits."""
MAX_FACES = 1_000_000
DAY_S = 24 * 3600.0
PROBLEMS_SHOWN = 4


class Settings(BaseModel):
    """Frozen settings that refuse unknown names and non-finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _openable(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("a path must not contain a zero byte")
    return path


LocalPath = Annotated[Path, AfterValidator(_openable)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Metres = Annotated[float, Field(ge=0.001, le=10_000)]
Share = Annotated[float, Field(gt=0, lt=1)]
Pixel = Annotated[float, Field(ge=-MAX_PIXEL, le=MAX_PIXEL)]
Timeout = Annotated[float, Field(gt=0, le=DAY_S)]


class ReadConfig(Settings):
    """How pictures are decoded."""

    max_side: int = Field(1280, ge=64, le=8192)
    """Working size: the longer side of the photo in pixels. Photos are never enlarged."""
    max_pixels: int = Field(100_000_000, ge=1, le=2_000_000_000)
    """Larger pictures are refused by their header, before anything is decoded."""
    max_memory_mb: int = Field(2048, ge=256, le=1 << 20)
    """Memory limit of the decoding process."""
    timeout_s: Timeout = 60.0
    depth_unit_m: float | None = Field(None, ge=1e-6, le=1000)
    """Metres per unit of a depth map; by default 0.001 for 16-bit pictures and 1 for all else."""
    depth_kind: Literal["auto", "z", "distance", "disparity", "inverse", "relative", "points"] = "auto"
    """What the values of a depth map are (docs/inputs.md). `auto` is z-depth, unless the file says otherwise."""


MAX_PROMPTS = 254


def _clicks(value: Any) -> Any:
    """Each object's clicks in full: a bare click is an object of its own, and a click without a third number is inside."""
    if not isinstance(value, list | tuple):
        return value
    objects = [[entry] if _is_click(entry) else entry for entry in value]
    return [
        [[*click, 1] if _is_click(click) and len(click) == 2 else click for click in clicks]
        if isinstance(clicks, list | tuple)
        else clicks
        for clicks in objects
    ]


def _is_click(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and not isinstance(value[0], list | tuple)


Boxes = Annotated[tuple[tuple[Pixel, Pixel, Pixel, Pixel], ...], Field(max_length=MAX_PROMPTS)]
"""Prompts, one object each: x0, y0, x1, y1 in pixels of the photo as given, turned upright."""
Clicks = Annotated[tuple[tuple[Pixel, Pixel, Literal[0, 1]], ...], Field(min_length=1)]
Points = Annotated[tuple[Clicks, ...], BeforeValidator(_clicks), Field(max_length=MAX_PROMPTS)]
"""Prompts, one object each: its clicks, x and y in pixels of the photo as given, turned upright, and 1 inside the object or 0
outside. A click inside may leave out the 1, and an object of one click the brackets: [[20, 30], [[80, 40], [95, 40, 0]]]."""


class BackendConfig(Settings):
    """Settings of a back-end. The default of `method` is the back-end's name."""

    method: str


class SegmenterConfig(BackendConfig):
    """Settings that every segmenter has."""

    min_area: Share = 0.002
    """Smallest object, as a share of the picture."""
    max_objects: int = Field(24, ge=1, le=254)

    @property
    def prompts(self) -> tuple[Boxes, Points]:
        """What points at objects."""
        return (), ()

    @property
    def says_what(self) -> bool:
        """Whether they say which objects to make. If so, the alpha channel of a cut-out does not."""
        return any(self.prompts)


class PromptedSegmenterConfig(SegmenterConfig):
    """Settings of a segmenter that takes prompts. If there are any, it looks for nothing else."""

    boxes: Boxes = ()
    points: Points = ()

    @property
    def prompts(self) -> tuple[Boxes, Points]:
        """What points at objects."""
        return self.boxes, self.points


def _concepts(value: Any) -> Any:
    """Names of things: a list, or a text with commas."""
    parts = value.split(",") if isinstance(value, str) else value
    return (
        [part.strip() if isinstance(part, str) else part for part in parts]
        if isinstance(parts, list | tuple)
        else parts
    )


Concept = Annotated[str, Field(min_length=1, max_length=100)]
Concepts = Annotated[tuple[Concept, ...], BeforeValidator(_concepts), Field(max_length=MAX_PROMPTS)]
"""What to look for, in plain words: [mug, wooden chair], or "mug, wooden chair"."""


class FindingSegmenterConfig(PromptedSegmenterConfig):
    """Settings of a segmenter that also finds things by what they are called."""

    find: Concepts = ()
    """If there are any, it looks for nothing else."""

    @model_validator(mode="after")
    def _one_way_to_ask(self) -> FindingSegmenterConfig:
        if self.find and any(self.prompts):
            raise ValueError("`find` and boxes or points contradict each other; drop one of them")
        return self

    @property
    def says_what(self) -> bool:
        """Whether they say which objects to make. If so, the alpha channel of a cut-out does not."""
        return bool(self.find) or super().says_what


class RegionsConfig(SegmenterConfig):
    """Superpixels, merged into regions and scored as foreground. Needs no weights."""

    method: Literal["regions"] = "regions"
    superpixels: int = Field(600, ge=50, le=2000)
    max_objects: int = Field(12, ge=1, le=254)


class SamConfig(PromptedSegmenterConfig):
    """segment-anything: automatic masks, or boxes and points as prompts."""

    method: Literal["sam"] = "sam"
    model: Literal["vit_b", "vit_l", "vit_h"] = "vit_b"
    checkpoint: LocalPath | None = None
    """A local `.pth` or `.safetensors`; without it, the registered checkpoint of `model` is used."""
    sha256: Digest | None = None
    """Digest the local checkpoint must have; a `.pth` needs one unless it is a registered file."""
    points_per_side: int = Field(32, ge=2, le=128)
    min_iou: float = Field(0.88, ge=0, le=1)
    min_stability: float = Field(0.95, ge=0, le=1)
    max_area: float = Field(0.6, gt=0, le=1)


class Sam2Config(PromptedSegmenterConfig):
    """SAM 2.1 through transformers: automatic masks, or boxes and points as prompts."""

    method: Literal["sam2"] = "sam2"
    checkpoint: LocalPath | None = None
    """A local folder in the hub's layout; without it, the pinned revision of the registered repository is used."""
    points_per_side: int = Field(32, ge=2, le=128)
    min_iou: float = Field(0.8, ge=0, le=1)
    min_stability: float = Field(0.95, ge=0, le=1)
    max_area: float = Field(0.6, gt=0, le=1)


class Sam3Config(FindingSegmenterConfig):
    """SAM 3 through transformers: everything that a list of nouns names, what `find` names, or what boxes and points mean."""

    method: Literal["sam3"] = "sam3"
    checkpoint: LocalPath | None = None
    """A local folder in the hub's layout; without it, the pinned revision of the registered repository is used."""
    min_score: float = Field(0.5, ge=0, le=1)
    """How sure the network must be that something is what a noun says."""
    max_area: float = Field(0.6, gt=0, le=1)


class EmbeddedSegmentConfig(FindingSegmenterConfig):
    """The perception network whose weights are part of the package. It finds only nouns that it knows."""

    method: Literal["embedded"] = "embedded"
    min_label_confidence: float = Field(0.4, ge=0, le=1)
    """An object gets the most likely label if its probability is at least this; otherwise it is called `object`."""


SegmentConfig = Annotated[SerializeAsAny[SegmenterConfig], PlainValidator(SEGMENTERS.settings)]


class GroundConfig(BackendConfig):
    """A ground plane seen by a camera of assumed height and pitch; objects stand where they touch it. No weights."""

    method: Literal["ground"] = "ground"
    camera_height_m: Metres = 1.0
    pitch_deg: float = Field(25.0, ge=0, lt=90)
    """How far the camera looks down, in degrees."""
    max_depth_m: Metres = 6.0


class DepthAnythingConfig(BackendConfig):
    """Depth Anything V2 through transformers."""

    method: Literal["depth-anything"] = "depth-anything"
    variant: Literal["relative", "metric-indoor", "metric-outdoor"] = "metric-indoor"
    size: Literal["small", "base", "large"] = "small"
    checkpoint: LocalPath | None = None
    """A local folder in the hub's layout; without it, the pinned revision of the registered repository is used."""
    near_m: Metres = 0.5
    far_m: Metres = 5.0
    """A relative map has no metres: its nearest and farthest points are put at these distances."""

    @model_validator(mode="after")
    def _near_before_far(self) -> DepthAnythingConfig:
        if self.near_m >= self.far_m:
            raise ValueError(f"`near_m` is {self.near_m} and `far_m` {self.far_m}; near_m must be the smaller")
        return self


class MogeSettings(BackendConfig):
    """Which weights of MoGe-2 are used, and how closely they look."""

    checkpoint: LocalPath | None = None
    """A local `model.pt`; without it, the registered checkpoint is used."""
    sha256: Digest | None = None
    """Digest that the local checkpoint must have."""
    detail: int = Field(9, ge=0, le=9)
    """9 looks with as many tokens as the network was trained for, 0 with as few."""


class MogeDepthConfig(MogeSettings):
    """MoGe-2: metres."""

    method: Literal["moge"] = "moge"


class DepthProSettings(BackendConfig):
    """Which weights of Depth Pro are used."""

    checkpoint: LocalPath | None = None
    """A local folder in the hub's layout; without it, the pinned revision of the registered repository is used."""


class DepthProDepthConfig(DepthProSettings):
    """Depth Pro through transformers: metres."""

    method: Literal["depth-pro"] = "depth-pro"


class EmbeddedDepthConfig(BackendConfig):
    """The perception network whose weights are part of the package."""

    method: Literal["embedded"] = "embedded"
    distance_m: Metres = 1.2
    """Assumed distance of the objects, or of everything if there are none: the network's depth has no scale."""
    known_sizes: bool = True
    """Whether the usual sizes of named objects give the metres; if none is known, the assumed distance does."""


DepthConfig = Annotated[SerializeAsAny[BackendConfig], PlainValidator(DEPTH_ESTIMATORS.settings)]


class DefaultCameraConfig(BackendConfig):
    """No estimator: settings or EXIF data give the camera, or it is assumed."""

    method: Literal["default"] = "default"


class EmbeddedCameraConfig(BackendConfig):
    """The perception network whose weights are part of the package. It estimates gravity as well."""

    method: Literal["embedded"] = "embedded"


class MogeCameraConfig(MogeSettings):
    """MoGe-2: field of view, and gravity where the photo shows enough level surfaces."""

    method: Literal["moge"] = "moge"


class DepthProCameraConfig(DepthProSettings):
    """Depth Pro through transformers: field of view."""

    method: Literal["depth-pro"] = "depth-pro"


CameraEstimatorConfig = Annotated[SerializeAsAny[BackendConfig], PlainValidator(CAMERA_ESTIMATORS.settings)]


class Line(Settings):
    """A line that the photo shows."""

    start: Place
    """u and v in pixels of the photo as given, turned upright."""
    end: Place


class KnownLength(Line):
    """How far two things are apart that the photo shows."""

    metres: Metres


class CameraConfig(Settings):
    """The photo's camera."""

    fov_deg: float | None = Field(None, gt=1, lt=170)
    """Horizontal field of view in degrees; without it, that of the EXIF data is used, or else that of `estimator`."""
    estimator: CameraEstimatorConfig = DefaultCameraConfig()
    """A method with its settings, or the method alone."""
    default_fov_deg: float = Field(55.0, gt=1, lt=170)
    """Assumed if neither of them gives a field of view."""
    known_length: KnownLength | None = None
    """A length that is known gives the scene its metres, whatever else would."""
    second_length: KnownLength | None = None
    """A second length gives the field of view, if it lies at another distance or in another direction than the first."""
    verticals: Annotated[tuple[Line, ...], Field(max_length=MAX_LINES)] = ()
    """Edges that are vertical give gravity: one as far as it tells, two that are not parallel all of it."""
    horizon: Line | None = None
    """A line along the horizon gives gravity, and where nothing gives the field of view, that, too: the one with which the
    camera looks down, or up, as far as its estimator says."""


class SiftConfig(BackendConfig):
    """SIFT features. COLMAP finds cameras by its own. Needs no weights."""

    method: Literal["sift"] = "sift"


class LightGlueConfig(BackendConfig):
    """LightGlue on SuperPoint's features, through transformers: also for COLMAP."""

    method: Literal["lightglue"] = "lightglue"
    checkpoint: LocalPath | None = None
    """A local folder in the hub's layout; without it, the registered repository is used."""
    max_side: int = Field(1024, ge=64, le=4096)
    """Longer side, in pixels, that larger photos are reduced to."""


MatcherConfig = Annotated[SerializeAsAny[BackendConfig], PlainValidator(MATCHERS.settings)]


class ViewsConfig(Settings):
    """Several photos of one scene."""

    match: MatcherConfig = SiftConfig()
    """What finds the points that the photos share."""
    timeout_s: Timeout = 600.0
    """Seconds after which finding their cameras counts as hung."""


class LayoutConfig(Settings):
    """Floor, gravity and background."""

    method: Literal["planes"] = "planes"
    inlier_share: Share = 0.01
    """RANSAC distance threshold, as a share of the depth."""
    min_floor_share: Share = 0.05
    """Smallest floor, as a share of the background pixels."""
    max_tilt_deg: float = Field(75.0, gt=0, le=90)
    """How far the floor's normal may lean from the picture's vertical, if gravity is not known."""
    max_slope_deg: float = Field(35.0, gt=0, le=90)
    """How far the floor's normal may lean from gravity, if an estimator gives gravity."""
    grid: int = Field(96, ge=8, le=512)
    """Cells along the longer side of a background mesh."""
    floor_at: Place | None = None
    """A place where the photo shows the floor: it goes through that, as level as it was found."""


class NoCompletionConfig(BackendConfig):
    """Objects are made of what is seen of them."""

    method: Literal["none"] = "none"


class OutlineConfig(BackendConfig):
    """Outlines are closed behind what hides them, by continuation and symmetry. Needs no weights."""

    method: Literal["outline"] = "outline"


class EditorConfig(BackendConfig):
    """Settings that every image editor has."""

    checkpoint: LocalPath | None = None
    """A local folder of diffusers; without it, the pinned revision of the registered repository is used."""
    residency: AskedResidency = "auto"
    """What stays on the graphics card: every network, one network, or one layer. `auto` decides by its memory."""


class QwenEditConfig(EditorConfig):
    """Qwen-Image-Edit through diffusers: redraws the whole object."""

    method: Literal["qwen-image-edit"] = "qwen-image-edit"
    steps: int = Field(40, ge=1, le=200)
    guidance: float = Field(4.0, ge=1, le=20)


class SdxlInpaintingConfig(EditorConfig):
    """Stable Diffusion XL inpainting through diffusers: fills in what is hidden."""

    method: Literal["sdxl-inpainting"] = "sdxl-inpainting"
    steps: int = Field(25, ge=1, le=200)
    guidance: float = Field(7.5, ge=1, le=20)
    side: int = Field(1024, ge=64, le=2048)
    """Of the square that it draws, pixels."""


CompleterConfig = Annotated[SerializeAsAny[BackendConfig], PlainValidator(COMPLETERS.settings)]


class InflateConfig(BackendConfig):
    """A closed mesh from mask and depth, the hidden side by a thickness prior. Needs no weights."""

    method: Literal["inflate"] = "inflate"
    resolution: int = Field(112, ge=24, le=512)
    """Cells across the crop."""
    thickness: float = Field(1.0, ge=0.01, le=10)
    """Depth of an object as a multiple of its prior."""
    variation: float = Field(0.25, ge=0, le=1)
    """Spread (log) of the thickness over seeds; seed 0 is the prior itself."""
    max_faces: int = Field(5000, ge=100, le=MAX_FACES)


class EmbeddedGeneratorConfig(BackendConfig):
    """The compact generator whose weights are part of the package."""

    method: Literal["embedded"] = "embedded"
    steps: int = Field(1, ge=1, le=100)
    """Steps of the sampler. One gives roughly the mean shape, whole but a little thin; more give variety, and holes."""
    guidance: float = Field(1.0, ge=0, le=10)
    """Classifier-free guidance. 1 takes the photo's conditions as learned; more exaggerates them."""
    resolution: int = Field(96, ge=32, le=256)
    """Cells per edge of the cube on which the generated field is fitted to the photo."""
    max_faces: int = Field(8000, ge=100, le=MAX_FACES)


class Pixal3DConfig(BackendConfig):
    """The released Pixal3D."""

    method: Literal["pixal3d"] = "pixal3d"
    checkpoint: LocalPath | None = None
    """A local folder in the released layout, as `Pixal3DPipeline.save_pretrained` writes it; without it, the registered
    weights are used."""
    resolution: int = Field(1024, ge=1024, le=1536, multiple_of=128)
    """Voxels along the cube's edge at which the surface is decoded."""
    max_tokens: int = Field(49152, ge=512, le=1 << 24)
    """Largest number of voxels in the flows; above it a coarser resolution is used, except at 1024."""
    residency: AskedResidency = "auto"
    """What stays on the device: every network, one network, or one block of one. `auto` decides by the device's memory."""
    precision: Literal["auto", "released", "float32"] = "auto"
    """Type of the networks' blocks: bfloat16 as released, or float32, which `auto` uses on a CPU."""
    compiled: bool = False
    """Whether torch compiles the blocks of the flows, once in each process; needs a C++ compiler. Numbers differ by rounding."""
    surface: Literal["true", "shell"] = "true"
    """The decoded surface itself, or the reference's offset shell about it (with double walls if the surface is open)."""
    max_faces: int = Field(50_000, ge=100, le=MAX_FACES)
    attempts: int = Field(6, ge=1, le=6)
    """Largest number of attempts, with other seeds and fields of view, at an object whose silhouette does not fit its mask."""


GenerateConfig = Annotated[SerializeAsAny[BackendConfig], PlainValidator(OBJECT_GENERATORS.settings)]


class TextureConfig(Settings):
    """UV unwrapping and baking."""

    size: int = Field(512, ge=64, le=4096)
    """Texels along an atlas side."""
    unwrap_timeout_s: Timeout = 600.0
    """Seconds after which UV unwrapping counts as hung, and its object as failed."""


Stand = ObjectId | Literal["floor", "background", "nothing"]
"""What carries an object."""


def circle_of(stands: Mapping[int, Stand]) -> str:
    """Objects that would carry each other, in words; empty if none would.

    Examples:
        >>> circle_of({1: 2, 2: 3, 3: 1}), circle_of({1: 2, 2: "floor"})
        ('1 on 2 on 3 on 1', '')
    """
    for number in stands:
        way = [number]
        while isinstance(on := stands.get(way[-1]), int):
            if on in way:
                return " on ".join(map(str, [*way[way.index(on) :], on]))
            way.append(on)
    return ""


class ComposeConfig(Settings):
    """Placement of the objects."""

    contact: bool = True
    """Whether objects are moved along their rays, within the depth's uncertainty, to touch what supports them."""
    max_shift: float = Field(0.25, ge=0, lt=1)
    """Largest relative change of an object's scale for contact; never more than two standard deviations of the depth."""
    stands: dict[ObjectId, Stand] = {}
    """What carries some of the objects, whatever the photo suggests."""
    before: tuple[tuple[ObjectId, ObjectId], ...] = ()
    """Pairs of which the first lies before the second."""
    distances: dict[ObjectId, Annotated[float, Field(ge=0.1, le=10)]] = {}
    """Distance of some of the objects along their rays, over what depth says. Contact does not move them."""
    settle: bool = False
    """Whether what falls under gravity is begun elsewhere within a standard deviation of its depth, and kept there if then it
    stays: two seconds are simulated each time, which needs MuJoCo. No pixel moves."""

    @model_validator(mode="after")
    def _stands_on_something(self) -> ComposeConfig:
        if circle := circle_of(self.stands):
            raise ValueError(f"objects cannot carry each other in a circle: {circle}")
        return self


class DepthSettings(Settings):
    """The settings that the depth stage depends on."""

    depth: DepthConfig
    camera: CameraConfig


class OutlineSettings(Settings):
    """The settings that depth and background of an object with an edited outline depend on."""

    depth: DepthConfig
    layout: LayoutConfig


class MeasureSettings(Settings):
    """The settings that the metres of an edited scene depend on."""

    known_length: KnownLength | None


class CompleteSettings(Settings):
    """The settings that the completion of partly hidden objects depends on."""

    complete: CompleterConfig
    seed: int


class ObjectSettings(Settings):
    """The settings that the generation of one object depends on."""

    generate: GenerateConfig
    texture: TextureConfig
    seed: int


ExporterConfig = Annotated[SerializeAsAny[BackendConfig], PlainValidator(EXPORTERS.settings)]


class ExportConfig(Settings):
    """GLB and USD, and the formats that are written beside them."""

    formats: tuple[ExporterConfig, ...] = ()
    """Methods of exporters, alone or with their settings, in the order that they run in."""
    usdz: bool = True
    density_kg_m3: float = Field(400.0, ge=0.1, le=30_000)
    """Density of objects whose label says nothing of it: between those of aerogel and of osmium."""
    hulls: int = Field(16, ge=1, le=64)
    """Most convex parts that a concave object collides with; 1: its convex hull."""
    settle: bool = False
    """Whether gravity is switched on for two seconds to see what stays; needs MuJoCo."""


class ReportConfig(Settings):
    """The report page."""

    picture_side: int = Field(960, ge=64, le=8192)
    """Longer side of its pictures in pixels."""


class ObjectConfig(Settings):
    """Overrides for one object, by its id."""

    seed: int | None = Field(None, ge=0, le=MAX_SEED)
    """Without it, that of all objects."""
    generate: GenerateConfig | None = None
    """Without it, that of all objects."""


class Config(Settings):
    """Everything that decides a result."""

    seed: int = Field(0, ge=0, le=MAX_SEED)
    read: ReadConfig = ReadConfig()
    segment: SegmentConfig = EmbeddedSegmentConfig()
    camera: CameraConfig = CameraConfig(estimator=EmbeddedCameraConfig())
    depth: DepthConfig = EmbeddedDepthConfig()
    views: ViewsConfig = ViewsConfig()
    layout: LayoutConfig = LayoutConfig()
    complete: CompleterConfig = NoCompletionConfig()
    generate: GenerateConfig = EmbeddedGeneratorConfig()
    texture: TextureConfig = TextureConfig()
    compose: ComposeConfig = ComposeConfig()
    export: ExportConfig = ExportConfig()
    report: ReportConfig = ReportConfig()
    objects: dict[Annotated[int, Field(ge=1, le=MAX_ID)], ObjectConfig] = {}

    @property
    def complete_settings(self) -> CompleteSettings:
        """The settings partly hidden objects are completed with."""
        return CompleteSettings(complete=self.complete, seed=self.seed)

    @property
    def depth_settings(self) -> DepthSettings:
        """The settings that depth and camera are estimated with."""
        camera = self.camera
        if camera.second_length is None:  # one length alone tells the metres, and they are found later
            camera = camera.model_copy(update={"known_length": None})
        return DepthSettings(depth=self.depth, camera=camera)

    @property
    def outline_settings(self) -> OutlineSettings:
        """The settings that objects with edited outlines are seen with."""
        return OutlineSettings(depth=self.depth, layout=self.first_layout)

    @property
    def measure_settings(self) -> MeasureSettings:
        """The settings that the metres of an edited scene are found with."""
        return MeasureSettings(known_length=self.camera.known_length)

    @property
    def first_layout(self) -> LayoutConfig:
        """The settings of the layout that objects are generated in: where the floor is shown does not change them."""
        return self.layout.model_copy(update={"floor_at": None})

    def object_settings(self, object_id: int) -> ObjectSettings:
        """The settings object `object_id` is generated with.

        Examples:
            >>> Config(seed=3, objects={2: ObjectConfig(seed=9)}).object_settings(2).seed
            9
        """
        override = self.objects.get(object_id, ObjectConfig())
        return ObjectSettings(
            generate=override.generate or self.generate,
            texture=self.texture,
            seed=self.seed if override.seed is None else override.seed,
        )


def preset_names() -> list[str]:
    """The names that `--preset` takes.

    Examples:
        >>> preset_names()
        ['embedded', 'low-memory', 'paper', 'pixal3d', 'training-free']
    """
    return sorted(entry.name.removesuffix(".yaml") for entry in _presets().iterdir() if entry.name.endswith(".yaml"))


def load_config(
    preset: str = DEFAULT_PRESET, file: Path | None = None, overrides: Iterable[str | Mapping[str, Any]] = ()
) -> Config:
    """The resolved configuration.

    Args:
        preset: one of `preset_names()`.
        file: a YAML file with any part of the configuration.
        overrides: `a.b=c` texts (the value is read as YAML) or nested mappings, applied in order.

    Raises:
        UsageError: for an unknown preset or name, or a value that is not allowed.

    Examples:
        >>> config = load_config("training-free", overrides=["texture.size=256", {"seed": 7}])
        >>> config.texture.size, config.seed, config.generate.method
        (256, 7, 'inflate')
    """
    if preset not in preset_names():
        hint = did_you_mean(preset, preset_names())
        raise UsageError(
            f"`preset` is {_shown(preset)}, which is not a preset.{hint} Allowed: {', '.join(preset_names())}."
        )
    values = _read_yaml((_presets() / f"{preset}.yaml").read_text(encoding="utf-8"), f"preset {preset}")
    if file is not None:
        values = _merged(values, _read_yaml(_text(file), one_line(str(file))))
    for override in overrides:
        values = _merged(values, _parse_override(override) if isinstance(override, str) else override)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        problems = [
            f"`{'.'.join(one_line(str(part), 60) for part in problem['loc'])}`: {one_line(problem['msg'], 200)}"
            + ("" if problem["type"] == "missing" else f" (received {_shown(problem['input'])})")
            + (did_you_mean(str(problem["loc"][-1]), _names()) if problem["type"] == "extra_forbidden" else "")
            for problem in found[:PROBLEMS_SHOWN]
        ]
        more = f"; and {len(found) - PROBLEMS_SHOWN} more" if len(found) > PROBLEMS_SHOWN else ""
        raise UsageError(
            f"configuration: {'; '.join(problems)}{more}. `scenegen config show` prints all names."
        ) from error


def _names() -> set[str]:
    """Every name of a setting."""

    def below(section: type[Settings]) -> set[str]:
        return {*section.model_fields}.union(*map(below, section.__subclasses__()))

    return below(Settings)


def _text(file: Path) -> str:
    try:
        with file.open(encoding="utf-8") as opened:
            return opened.read(MAX_CHARACTERS + 1)
    except (OSError, ValueError) as error:
        raise UsageError(f"`config` file {one_line(str(file))} cannot be read: {one_line(str(error))}.") from error


def _shown(value: object) -> str:
    """A wrong value as text, shortened: it may have any size."""
    if isinstance(value, int) and abs(value) >= 1 << 64:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, str | int | float | None):
        return one_line(repr(value), 80)
    return f"a {type(value).__name__}"


def _presets() -> Any:
    """The folder of presets: inside the package when installed, beside it in a source checkout."""
    packaged = files("scenegen") / "configs"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "configs"


def _read_yaml(text: str, origin: str) -> dict[str, Any]:
    try:
        values = parse_yaml(text)
    except ValueError as error:
        raise UsageError(f"{origin} is not valid YAML: {one_line(str(error))}.") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(f"{origin} holds a {type(values).__name__}; it must be a mapping such as `depth: ...`.")
    return values


def _parse_override(text: str) -> dict[str, Any]:
    name, equals, value = text.partition("=")
    parts = name.split(".")
    if not equals or not name or len(parts) > MAX_DEPTH:
        raise UsageError(f"`set` is {_shown(text)}; write it as name=value, for example generate.thickness=0.8.")
    try:
        nested: Any = parse_yaml(value)
    except ValueError as error:
        raise UsageError(f"`set` {one_line(name, 80)}: the value is not valid YAML: {one_line(str(error))}.") from error
    for part in reversed(parts):
        nested = {part: nested}
    return nested


def _merged(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """`top` laid over `base`. A section whose `method` changes starts afresh: the settings of the other method do not apply."""
    merged = dict(base)
    for name, value in top.items():
        below = merged.get(name)
        if isinstance(below, str):  # a method alone
            below = {"method": below}
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            changed = "method" in value and value["method"] != below.get("method")
            merged[name] = dict(value) if changed else _merged(below, value)
        else:
            merged[name] = value
    return merged
