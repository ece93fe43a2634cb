"""The frozen records that flow between stages: store paths, digests and plain numbers.

Never arrays or meshes: those live in the store, behind an `Artifact`. Frames and units are those of
`scenegen.camera`. A record's digest is the sha256 of its canonical JSON, so equal records mean equal inputs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from scenegen.messages.redaction import redacted

Shown = Annotated[str, AfterValidator(redacted)]
"""A text without secrets: others can read stored records."""
ARTIFACT_FIELDS = {"path", "sha256", "bytes"}
MAX_PIXEL = 100_000
"""Largest coordinate in pixels."""

Scale = Annotated[float, Field(gt=0, le=1e6)]
Vector = tuple[float, float, float]
Matrix3 = tuple[Vector, Vector, Vector]
Row4 = tuple[float, float, float, float]
Matrix4 = tuple[Row4, Row4, Row4, Row4]


class Record(BaseModel):
    """A frozen value with a digest. Its numbers are finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def digest(self) -> str:
        """sha256 (hex) of the canonical JSON of the record, in which every artifact counts by its content alone.

        So if a stage runs again with the same result, what depends on it need not run.
        """
        return digest_json(_without_paths(self.model_dump(mode="json")))

    @property
    def provisional(self) -> bool:
        """Whether it is less than its inputs and settings ask for, for a reason that may pass, such as a lack of
        memory. Only the run that made it uses it."""
        return False


def digest_json(value: object) -> str:
    """sha256 (hex) of `value` as canonical JSON: sorted keys, no spaces, no NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        kept = value.keys() - {"path"} if value.keys() == ARTIFACT_FIELDS else value.keys()
        return {name: _without_paths(value[name]) for name in kept}
    if isinstance(value, list):
        return [_without_paths(item) for item in value]
    return value


MAX_PATH, MAX_PART = 1024, 255
"""Most bytes of a path and of each of its parts that file systems allow."""


def _stays_inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    long = len(path) > MAX_PATH or any(len(part.encode("utf-8", "replace")) > MAX_PART for part in parts)
    if path.startswith("/") or ".." in parts or not parts or "\0" in path or long:
        raise ValueError("a path in the store must be relative, without `..`, and valid for a file")
    return path


class Artifact(Record):
    """One file in the store."""

    path: Annotated[str, AfterValidator(_stays_inside)]
    """Relative to the store's root, with forward slashes."""
    sha256: str
    bytes: int


def artifacts(value: Any) -> Iterator[Artifact]:
    """Every artifact in a record or its JSON values, at any depth."""
    if isinstance(value, Record):
        yield from artifacts(value.model_dump(mode="json"))
    elif isinstance(value, dict):
        if value.keys() == ARTIFACT_FIELDS:
            yield Artifact.model_validate(value)
        else:
            for item in value.values():
                yield from artifacts(item)
    elif isinstance(value, list):
        for item in value:
            yield from artifacts(item)


class Intrinsics(Record):
    """A pinhole camera without distortion. Lengths in pixels; the centre of the top-left pixel is (0.5, 0.5)."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float


class CropCamera(Record):
    """The photo seen through a rotated copy of its camera (same centre), as a square picture of one object."""

    crop_from_camera: Matrix3
    """Rotation that takes camera coordinates to crop-camera coordinates (both OpenCV axes)."""
    intrinsics: Intrinsics


class GivenCamera(Record):
    """The photo's camera, as the user gave it."""

    intrinsics: Intrinsics
    world_from_camera: Matrix4 | None = None
    """OpenCV axes, in the world and unit of the file, whatever they are; None if the file does not say."""
    of_depth: bool = False
    """Whether it came with the depth map: a given field of view comes before it."""


class GivenMesh(Record):
    """The mesh of one object, as the user gave it."""

    id: int
    """Of the object."""
    mesh: Artifact


class GivenPicture(Record):
    """The picture that one object is made from instead of what the photo shows of it."""

    id: int
    """Of the object."""
    picture: Artifact


ObjectId = Annotated[int, Field(ge=1, le=2**16 - 2)]
"""Masks have 16 bits, and the largest number is none (`scenegen.ids.UNKNOWN`)."""
Pixel = Annotated[float, Field(ge=0, le=MAX_PIXEL)]
Place = tuple[Pixel, Pixel]
"""u and v in pixels of the photo as given, turned upright; the centre of its top-left pixel is (0.5, 0.5)."""


MAX_PLACES = 64
"""Most places inside, and outside, of one prompt."""
Places = Annotated[tuple[Place, ...], Field(max_length=MAX_PLACES)]


class PromptEdit(Record):
    """The object becomes what clicks, places along a scribble or a box mean. What it no longer shows is unknown."""

    kind: Literal["prompt"] = "prompt"
    object: ObjectId
    """A new id makes an object."""
    inside: Places = ()
    outside: Places = ()
    box: tuple[Pixel, Pixel, Pixel, Pixel] | None = None
    """u0, v0, u1, v1."""


class PaintEdit(Record):
    """The object becomes what was painted. What it no longer shows is unknown."""

    kind: Literal["paint"] = "paint"
    object: ObjectId
    """A new id makes an object."""
    mask: Artifact
    """PNG, 8-bit grey: all of the object is white. It is as large as the photo at working size."""


class FillEdit(Record):
    """What the object encloses becomes part of it: holes, and other objects in them."""

    kind: Literal["fill"] = "fill"
    object: ObjectId
    at: Place | None = None
    """In the hole that is filled; None for every hole."""


class MergeEdit(Record):
    """The objects become one, which goes by the first."""

    kind: Literal["merge"] = "merge"
    objects: Annotated[tuple[ObjectId, ...], Field(min_length=2, max_length=254)]


class SplitEdit(Record):
    """What lies to the left of a line, as one goes along it, becomes an object of its own."""

    kind: Literal["split"] = "split"
    object: ObjectId
    part: ObjectId
    """The new object."""
    start: Place
    end: Place


class RemoveEdit(Record):
    """The object is none."""

    kind: Literal["remove"] = "remove"
    object: ObjectId
    shows: Literal["background", "unknown"]
    """What its pixels show: what is behind the objects, or something that is not to be in the scene, whose place is filled."""


PRINTED = r"^[^\s\p{Cc}]([^\p{Cc}]*[^\s\p{Cc}])?$"
"""A text of one line that neither begins nor ends with a space."""


class RenameEdit(Record):
    """The object gets a name."""

    kind: Literal["rename"] = "rename"
    object: ObjectId
    label: Annotated[str, Field(min_length=1, max_length=80, pattern=PRINTED), AfterValidator(redacted)]


class LockEdit(Record):
    """The object keeps its outline and its name: what is drawn over it leaves it out, and it cannot be edited."""

    kind: Literal["lock"] = "lock"
    object: ObjectId
    locked: bool
    """False ends that."""


MaskEdit = Annotated[
    PromptEdit | PaintEdit | FillEdit | MergeEdit | SplitEdit | RemoveEdit | RenameEdit | LockEdit,
    Field(discriminator="kind"),
]
"""A change of which pixels show which object, or of what it is."""


class Removed(Record):
    """The objects that are not to be in the scene, whichever photos show them."""

    items: tuple[RemoveEdit, ...] = ()


class Source(Record):
    """What the user gave for one scene, already copied into the store."""

    name: str
    """Name of the output folder, safe as a file name."""
    photo: Artifact
    masks: tuple[Artifact, ...] = ()
    """One file for all objects, or one picture per object (sorted by name)."""
    mask_names: tuple[Shown, ...] = ()
    """Of their files."""
    mask_labels: tuple[Shown, ...] = ()
    """The name of the object in each of several pictures; empty if no names were given."""
    depth: Artifact | None = None
    camera: tuple[Artifact, ...] = ()
    """The file of the camera, and with COLMAP's cameras that of its images."""
    meshes: tuple[GivenMesh, ...] = ()
    """GLB."""
    pictures: tuple[GivenPicture, ...] = ()
    """Of any kind that photos may have."""
    edits: tuple[MaskEdit, ...] = ()
    """What was put right in the objects that were found, in this order."""

    def without_edits(self) -> Source:
        """The files alone."""
        return self.model_copy(update={"edits": ()})

    def without_removals(self) -> Source:
        """With the objects in it that were removed: other photos show them, too."""
        return self.model_copy(update={"edits": tuple(each for each in self.edits if not isinstance(each, RemoveEdit))})


class Photo(Record):
    """The decoded photo at working size: upright, sRGB, 8 bits."""

    name: str
    image: Artifact
    """PNG, RGB, `height` x `width`."""
    alpha: Artifact | None
    """PNG, 8-bit grey, if the picture has a useful alpha channel."""
    masks: Artifact | None
    """PNG, 16-bit ids at working size, if the user gave masks; 0 and 65535 as in `Instances`."""
    mask_labels: tuple[Shown, ...] = ()
    """Names of the objects 1, 2 and so on; empty where none is given."""
    depth: Artifact | None
    """npy float32 at working size, 0 where unknown, if the user gave depth: metres, or as `depth_kind` says."""
    depth_kind: str = "z"
    """What its values are (`scenegen.perception.given_depth`)."""
    width: int
    height: int
    original_width: int
    """Of the photo as given, turned upright."""
    original_height: int
    focal_35mm: float | None
    """Equivalent focal length in millimetres on a 36 x 24 mm frame, from EXIF."""
    focal_source: str = ""
    """Where in the EXIF data that is from."""
    camera: GivenCamera | None = None
    """For the working size, if the user gave it."""
    meshes: tuple[GivenMesh, ...] = ()
    """npz of a `TexturedMesh`, glTF's axes, any unit."""
    pictures: tuple[GivenPicture, ...] = ()
    """PNG, RGB, or RGBA where something of it is transparent; at most as large as the photo may be."""
    warnings: tuple[Shown, ...] = ()

    def at_working_size(self, place: Place) -> tuple[float, float]:
        """The place in pixels of the photo at working size."""
        return place[0] * self.width / self.original_width, place[1] * self.height / self.original_height

    def with_given_of(self, object_id: int | None) -> Photo:
        """The photo with what was given for one object alone, so that the others do not depend on it; None for nothing."""
        meshes = tuple(given for given in self.meshes if given.id == object_id)
        pictures = tuple(given for given in self.pictures if given.id == object_id)
        return self.model_copy(update={"meshes": meshes, "pictures": pictures})


class Instance(Record):
    """One object of the photo."""

    id: int
    label: str
    """`object` if no name is likely enough."""
    label_confidence: float | None = None
    """How likely the label is right, 0..1; None if it was given, or is `object`."""
    guesses: tuple[tuple[str, float], ...] = ()
    """Everyday nouns it could be called, each with how likely it is right, the likeliest first; empty if nobody guesses."""
    score: float
    """How sure the segmenter is, 0..1."""
    locked: bool = False
    """Whether it keeps its outline and its name (`LockEdit`)."""
    box: tuple[int, int, int, int]
    """Tight box of the visible mask in pixels: x0, y0, x1, y1, with x1 and y1 exclusive."""
    area: int
    """Visible pixels."""


class Outline(Record):
    """The outline of an object, which a person has put right."""

    id: int
    mask: Artifact
    """PNG, 8-bit: 255 where the object is seen."""


class Instances(Record):
    masks: Artifact
    """PNG, 16-bit: the id of the object each pixel shows, 0 for visible background, 65535 for unknown."""
    items: tuple[Instance, ...]
    edited: tuple[Outline, ...] = ()
    """Of the objects that do not look as they were found first."""
    backend: str
    licence: str
    warnings: tuple[Shown, ...] = ()

    @property
    def unnamed(self) -> Instances:
        """Which pixels show which object, and nothing else, for what does not depend on names."""
        return Instances(masks=self.masks, items=(), backend="", licence="")


NOUNS_SHOWN = 3


class KnownSize(Record):
    """What an object's name says about how large the scene is (`scenegen.scene.metres`)."""

    object: int
    noun: str
    measure: Literal["height", "length"]
    known_m: float
    """What such things mostly have (`scenegen.scene.sizes`)."""
    spread: float
    """Of that, as a factor."""
    found_m: float
    """What it has in the scene."""
    whole: bool
    """Whether all of it is seen; else it is mostly larger."""
    trust: float
    """How likely name and size are right, given those of all objects, 0..1."""


class Metres(Record):
    """Where the metres of a scene come from, and how far they can be off."""

    source: Literal["measured", "known length", "known sizes", "assumed"]
    factor: float
    """One standard deviation of the scale: two times of three, true lengths lie within this factor of those of the scene."""
    sizes: tuple[KnownSize, ...] = ()

    def in_words(self) -> str:
        """What they are."""
        if self.source == "measured":
            return "measured"
        if self.source == "known length":
            return "by a length that is known"
        if self.source == "assumed":
            return f"assumed, give or take a factor of {self.factor:.2g}"
        nouns = dict.fromkeys(size.noun for size in sorted(self.sizes, key=lambda size: -size.trust))
        shown = ", ".join([*nouns][:NOUNS_SHOWN])
        return f"estimated from the usual sizes of what is seen ({shown}), give or take a factor of {self.factor:.2f}"


class Depth(Record):
    """Depth of the photo, and the camera it was measured or assumed with."""

    depth: Artifact
    """npy float32, z-depth in metres (distance along the optical axis), 0 where unknown."""
    intrinsics: Intrinsics
    intrinsics_source: str
    """`camera`, `fov`, `horizon` or `two lengths` (given), `depth file` (beside the depth map), `exif`, the name of the camera
    estimator, or `default` if there is none."""
    gravity: Vector | None = None
    """Unit vector that points down, in the camera frame, if an estimator gives it, or the user has shown it."""
    gravity_shown: bool = False
    """Whether the user has shown it."""
    metres: Metres
    sized: float | None = None
    """Factor by which the known sizes of objects have scaled what the estimator assumed; None where its scale is its own."""
    assumption: Shown = ""
    """As `scenegen.perception.DepthEstimate.assumption`."""
    uncertainty: float
    """One standard deviation of the depth, relative to the depth."""
    relief_error: float
    """One standard deviation of the depth across an object, without the error of its mean, as a share of the object's width."""
    backend: str
    licence: str
    warnings: tuple[Shown, ...] = ()

    @property
    def unnamed(self) -> Depth:
        """Without what is said of it, for what does not depend on names."""
        metres = Metres(source=self.metres.source, factor=1.0)
        return self.model_copy(update={"metres": metres, "assumption": "", "warnings": ()})


class OutlinedObject(Record):
    """An object with an edited outline, in a photo that otherwise is as it was seen first. Other edits do not change it."""

    id: int
    mask: Artifact
    """As in `Outline`."""
    depth: Artifact
    """npy float32 [n]: z-depth at the pixels of the mask in reading order, in the unit of the photo's depth, 0 where unknown."""
    relief_error: float
    """As in `Depth`."""
    limit: Artifact
    """As in `Layout`."""
    on_object: bool
    """Whether it stands on another object."""


class OutlinedObjects(Record):
    """All objects with edited outlines."""

    items: tuple[OutlinedObject, ...] = ()


class Failure(Record):
    """What is missing from the scene, an object or one of several photos, and why."""

    stage: str
    object: int | None
    """None for a photo, which the error names."""
    error: Shown


class SeenView(Record):
    """One of several photos of a scene: what it shows, and where its camera stands."""

    photo: Photo
    instances: Instances
    depth: Depth
    """In the metres of the whole scene."""
    main_from_camera: Matrix4
    """Rigid, metres: from the frame of its camera to that of the first view's."""


class Perceived(Record):
    """Photos of one scene, each as if it were alone: every pose is the identity."""

    scene: str
    """Name of the scene's folder."""
    items: tuple[SeenView, ...]


class Registered(Record):
    """The photos whose cameras are known, in one frame and one metre."""

    scene: str
    items: tuple[SeenView, ...]
    """The first is the main view: its camera's frame is that of the scene."""
    left_out: tuple[Failure, ...]
    """The photos that cannot be used, and why."""
    matches: Artifact
    """Where two photos show the same, by their places in `items`, as `scenegen.views.features.load_matches` reads it."""
    backend: str
    """`given`, or what found the cameras."""
    licence: str
    warnings: tuple[Shown, ...] = ()


class Views(Record):
    """Photos of one scene, in which one object has one id."""

    scene: str = ""
    """Name of the scene's folder."""
    items: tuple[SeenView, ...] = ()
    """The first is the main view. Empty where there is one photo only."""
    made_from: tuple[tuple[int, int], ...] = ()
    """The id of every object, and the number of the view that shows it best."""
    alone: tuple[int, ...] = ()
    """Ids of objects that are made and placed from that view alone, because all together contradict what it shows."""
    warnings: tuple[Shown, ...] = ()

    @property
    def others(self) -> tuple[SeenView, ...]:
        """All but the main view."""
        return self.items[1:]

    def best(self, object_id: int) -> int:
        """Number of the view that an object is made from; the main view where there is one photo only."""
        return dict(self.made_from).get(object_id, 0)

    def together(self, object_id: int) -> tuple[int, ...]:
        """Numbers of the views that an object is made from and placed by, the best one first."""
        best = self.best(object_id)
        if object_id in self.alone:
            return (best,)
        showing = [
            number
            for number, view in enumerate(self.items)
            if number != best and any(item.id == object_id for item in view.instances.items)
        ]
        return (best, *showing)


class Plane(Record):
    """The plane n . X + offset = 0 in the camera frame; the unit normal n points up, away from what it carries."""

    normal: Vector
    offset: float


class Support(Record):
    """What an object stands on."""

    child: int
    parent: int
    """Object id, or 0 for the floor."""
    contact_share: float
    """Share of the object's lower outline that borders the parent."""


class Surface(Record):
    """One textured background mesh, in the camera frame, metres."""

    name: str
    mesh: Artifact


class Layout(Record):
    """The room the objects stand in."""

    intrinsics: Intrinsics
    world_from_camera: Matrix4
    """Rigid. World: metres, Y up, the floor at height 0, the camera looks towards -Z."""
    floor: Plane
    floor_source: str
    """`ransac` (fitted), `assumed` if no floor is visible, or `shown` by the user."""
    surfaces: tuple[Surface, ...]
    supports: tuple[Support, ...]
    limit: Artifact
    """npy float32, z-depth in metres of the background behind every pixel, 0 where unknown."""
    backend: str
    warnings: tuple[Shown, ...] = ()


class SelfCheck(Record):
    """How well a generated object agrees with the mask it was generated from, seen through its camera."""

    silhouette_iou: float
    size_ratio: float
    """Larger side of the silhouette's box, divided by that of the mask's."""
    passed: bool
    """Whether the generator accepts it; if not, it is the best of several attempts."""
    fov_deg: float
    """Horizontal field of view it was generated with: the crop's, unless another one fitted better."""


class Completion(Record):
    """A partly hidden object as if nothing hid it."""

    id: int
    pad: int
    """Pixels that picture and mask have beyond each side of the photo."""
    picture: Artifact
    """PNG, RGB: the photo where the object is seen, what the completer shows where it is hidden, else black."""
    mask: Artifact
    """PNG, 8-bit: 255 where the whole object is."""
    hidden_outline: float
    """Share of its outline that others hide or the picture's border cuts."""
    growth: float
    """Area of the whole object over that of what is seen."""


class Completions(Record):
    """The partly hidden objects of a photo that were completed; all others are whole, or nothing was added to them."""

    items: tuple[Completion, ...] = ()
    backend: str = "none"
    licence: str = "none: no weights"
    warnings: tuple[Shown, ...] = ()

    def of(self, object_id: int) -> tuple[Completion, ...]:
        """The one of an object, if there is one."""
        return tuple(item for item in self.items if item.id == object_id)

    @classmethod
    def of_all(cls, each: Sequence[Completions]) -> Completions:
        """Those of several photos of one scene, no object twice.

        Example:
            >>> hidden = Completions(backend="outline", warnings=("one",))
            >>> Completions.of_all([hidden, Completions()]) == hidden, Completions.of_all([]) == Completions()
            (True, True)
        """
        made = next((one for one in each if one.items), next(iter(each), cls()))
        items, warnings = (sum((getattr(one, name) for one in each), ()) for name in ("items", "warnings"))
        return cls(items=items, backend=made.backend, licence=made.licence, warnings=warnings)


class ObjectMesh(Record):
    """One generated object, in its crop camera's frame."""

    id: int
    mesh: Artifact
    """npz of a `TexturedMesh`, crop-camera frame, arbitrary scale: X_camera = s R^T X, s found when composing."""
    crop: CropCamera
    backend: str
    licence: str
    seed: int
    """Seed of the chosen attempt, if the generator makes several."""
    check: SelfCheck | None = None
    """Given by generators that check their result."""
    economy: int = 0
    """Level of `Runtime.economy` that made it coarser than configured."""
    warnings: tuple[Shown, ...] = ()

    @property
    def provisional(self) -> bool:
        """See `Record.provisional`."""
        return self.economy > 0


class BegunObject(Record):
    """An object whose generation has no more need of a device, between two processes. It is never in the store."""

    id: int
    crop: CropCamera
    facts: str
    """`Unfinished.facts` as JSON; its arrays are in a file beside."""


class Objects(Record):
    """Every generated object, and those that failed."""

    items: tuple[ObjectMesh, ...]
    failures: tuple[Failure, ...] = ()


BACKGROUND_SUPPORT: Literal["background"] = "background"
Carrier = int | Literal["background"] | None
"""What carries an object: another object (its id), the floor (0), something of the background, or nothing that is known."""


class Scores(Record):
    """How well one placed object agrees with the photo."""

    silhouette_iou: float
    depth_error: float | None
    """Median of |z - z_photo| / z_photo over the pixels where both are known."""
    colour_psnr: float | None
    """Decibels, over the pixels in both the rendered object and its mask."""


class ViewScores(Record):
    """How well one placed object agrees with one of several photos."""

    photo: str
    """Its name."""
    scores: Scores


class Topology(Record):
    """The topology of a mesh, with vertices at the same place taken as one."""

    closed: bool
    """Whether it has no boundary and so encloses a volume."""
    pieces: int
    genus: int | None
    """Handles of all pieces: 0 for balls, 1 for a ring. None if the mesh is open."""


class Settled(Record):
    """What becomes of an object when gravity is switched on (`scenegen.physics.settle`)."""

    displacement_m: float
    """Of its centre of mass."""
    tilt_deg: float
    """Of its upright axis."""
    penetration_m: float
    """Greatest depth at the start to which it is inside of something else, as they collide."""
    stays: bool


class PlacedObject(Record):
    """One object in the scene. Its mesh is metric, gravity-aligned, with its origin at the centre of its base."""

    id: int
    name: str
    label: str
    label_confidence: float | None = None
    """As in `Instance`."""
    mesh: Artifact
    world_from_object: Matrix4
    scale: Scale
    """The one free number s of X_camera = s R^T X_crop."""
    distance: float = 1.0
    """That over the one that depth says."""
    support: Carrier
    level: float | None = None
    """Height over the floor of the level plane that it stands on, metres."""
    backend: str
    licence: str
    seed: int
    score: float
    scores: Scores
    """In the main view; in the view that it was made from where the main one does not show it."""
    views: tuple[ViewScores, ...] = ()
    """In every view that shows it, if there are several photos."""
    topology: Topology | None = None
    """None in scenes made before it was measured."""


class Kept(Record):
    """What an earlier run made and must stay as it is."""

    objects: tuple[PlacedObject, ...] = ()
    colliders: Artifact | None = None
    """As in `Export`; the background keeps its own too."""


class PlacedCamera(Record):
    """The camera of one of several photos, in the scene."""

    photo: str
    """Its name."""
    intrinsics: Intrinsics
    world_from_camera: Matrix4


class Scene(Record):
    """The composed scene: the graph as a file, and the numbers other stages need."""

    graph: Artifact
    """JSON of the scene graph (`scenegen.scene.graph`)."""
    metres: Metres
    intrinsics: Intrinsics
    world_from_camera: Matrix4
    objects: tuple[PlacedObject, ...]
    surfaces: tuple[Surface, ...]
    """Background meshes in the camera frame."""
    failures: tuple[Failure, ...]
    cameras: tuple[PlacedCamera, ...] = ()
    """Those of the other photos, if there are several."""
    warnings: tuple[Shown, ...] = ()


class Preview(Record):
    """A scene to look at."""

    glb: Artifact
    """Its meshes at their places, with the nodes of the exported one."""


class Export(Record):
    """The exported files, each with its name in the output folder."""

    files: tuple[tuple[str, Artifact], ...]
    settled: tuple[tuple[int, Settled], ...] = ()
    """By object id; empty unless the simulation was asked for."""
    colliders: Artifact | None = None
    """What each part of the scene collides with (`scenegen.physics.collider_file`)."""
    warnings: tuple[Shown, ...] = ()


class StageTiming(Record):
    stage: str
    object: int | None
    seconds: float


class Timings(Record):
    items: tuple[StageTiming, ...]


class Report(Record):
    """The page and its pictures, each with its name in the output folder."""

    files: tuple[tuple[str, Artifact], ...]
    warnings: tuple[Shown, ...] = ()
