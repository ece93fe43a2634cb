"""A scene made of boxes on a floor before a backdrop: its photo, masks and depth are rendered, so they agree exactly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from scenegen.camera import intrinsics_from_fov, matrix4
from scenegen.export.glb import write_glb
from scenegen.export.parts import Part, PartScene
from scenegen.geometry.mesh import TexturedMesh, save_mesh
from scenegen.geometry.render import render
from scenegen.records import (
    Artifact,
    Depth,
    Export,
    Failure,
    Instance,
    Instances,
    Layout,
    Metres,
    Photo,
    PlacedObject,
    Plane,
    Record,
    Scene,
    Scores,
    StageTiming,
    Surface,
    Timings,
    Topology,
)
from scenegen.scene.scoring import score_objects
from scenegen.store.digest import sha256_file
from scenegen.store.png import write_png
from scenegen.store.store import Store

WIDTH, HEIGHT = 320, 240
METRES = Metres(source="assumed", factor=2.0)
HOSTILE = '<script>alert("label")</script>'
COLORS = {1: (214, 64, 52), 2: (52, 152, 72), 3: (48, 96, 208)}
BOXES = {
    # id: centre of the base in the world, extents, label
    1: ((-0.55, 0.0, -2.6), (0.5, 0.7, 0.5), "red box"),
    2: ((0.15, 0.0, -2.2), (0.45, 0.4, 0.4), HOSTILE),
    3: ((0.18, 0.4, -2.2), (0.22, 0.25, 0.22), "blue box"),
}
SUPPORTS = {1: 0, 2: 0, 3: 2}
LOST = 4
"""An object that is in the masks but could not be made."""


@dataclass(frozen=True)
class ToyScene:
    """The inputs of the report stage."""

    photo: Photo
    instances: Instances
    depth: Depth
    layout: Layout
    scene: Scene
    export: Export
    timings: Timings

    @property
    def records(self) -> tuple[Record, ...]:
        return (self.photo, self.instances, self.depth, self.layout, self.scene, self.export, self.timings)


def box(extents: tuple[float, float, float], color: tuple[int, int, int], texels: int = 64) -> TexturedMesh:
    """A closed box, origin at the centre of its base, each side with a checker of `color` and a darker one."""
    x, y, z = extents
    vertices, faces, uv = [], [], []
    for axis in range(3):
        for sign in (-1, 1):
            u, v = [other for other in range(3) if other != axis]
            for a, b in ((0, 0), (1, 0), (1, 1), (0, 1)):
                corner = np.zeros(3)
                corner[axis], corner[u], corner[v] = (sign + 1) / 2, a, b
                vertices.append((corner - [0.5, 0, 0.5]) * [x, y, z])
                uv.append((a, 1 - b))
            start = len(vertices) - 4
            outward = sign * (-1 if axis == 1 else 1)  # x cross z is -y
            order = (0, 1, 2, 3) if outward > 0 else (3, 2, 1, 0)
            quad = [start + corner for corner in order]
            faces += [[quad[0], quad[1], quad[2]], [quad[0], quad[2], quad[3]]]
    checker = (np.add.outer(np.arange(texels) // 16, np.arange(texels) // 16) % 2)[..., None]
    texture = np.where(checker, np.array(color), np.array(color) * 0.82).astype(np.uint8)
    return TexturedMesh(np.array(vertices, np.float32), np.array(faces, np.int32), np.array(uv, np.float32), texture)


def sheet(corners: list[tuple[float, float, float]], color: tuple[int, int, int]) -> TexturedMesh:
    """A quadrilateral of one colour, its corners counter-clockwise."""
    return TexturedMesh(
        np.array(corners, np.float32),
        np.array([[0, 1, 2], [0, 2, 3]], np.int32),
        np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32),
        np.full((8, 8, 3), color, np.uint8),
    )


def varied(scene: PartScene) -> PartScene:
    """`scene` with materials that vary over its three objects: opaque with stray alpha, cut out, and seen through.

    The first and the last have a metallic-roughness texture, the last an unequal one; the floor is cut out, too.
    """
    v, u = np.mgrid[:32, :32]
    stray = np.where((u == v) & (u < 10), 0, 255)
    stripes = np.where(u // 8 % 2, 0, 255)
    glass = 40 + 5 * u
    packed = np.dstack([0 * u, 8 * u, 255 - 8 * v])
    changes = [
        {"base_color": _tinted(stray), "metallic_roughness": packed.astype(np.uint8)},
        {"base_color": _tinted(stripes)},
        {"base_color": _tinted(glass), "metallic_roughness": packed[:16, :8].astype(np.uint8)},
    ]
    floor, *rest = scene.background
    return replace(
        scene,
        objects=tuple(
            replace(part, mesh=replace(part.mesh, **change))
            for part, change in zip(scene.objects, changes, strict=True)
        ),
        background=(replace(floor, mesh=replace(floor.mesh, base_color=_tinted(stripes.T))), *rest),
    )


def _tinted(alpha: np.ndarray) -> np.ndarray:
    """A texture with this alpha, in tiles of colour that go on where nothing of them shows."""
    v, u = np.indices(alpha.shape)
    return np.dstack([u // 8 * 60, v // 8 * 60, (u + v) // 16 * 60, alpha]).astype(np.uint8)


def camera_pose(height_m: float = 1.1, pitch_deg: float = 18.0) -> np.ndarray:
    """world_from_camera of a camera that looks along -Z and down."""
    sine, cosine = np.sin(np.radians(pitch_deg)), np.cos(np.radians(pitch_deg))
    pose = np.eye(4)
    pose[:3, :3] = np.array([[1, 0, 0], [0, -cosine, -sine], [0, sine, -cosine]])
    pose[:3, 3] = [0, height_m, 0]
    return pose


def toy_scene(
    store: Store, name: str = "toy", objects: bool = True, shifted: int | None = None, side: int = WIDTH
) -> ToyScene:
    """The scene in `store`.

    Args:
        store: takes the files.
        name: of the photo.
        objects: whether any object is in the scene; without, all are failures.
        shifted: id of an object that the exported file holds in a wrong place.
        side: width of the photo in pixels.
    """
    folder = store.root / "toy"
    folder.mkdir(parents=True)
    width, height = side, round(side * HEIGHT / WIDTH)
    camera = intrinsics_from_fov(width, height, 55.0)
    world_from_camera = camera_pose()
    camera_from_world = np.linalg.inv(world_from_camera)
    surfaces = {
        "floor": sheet([(-3, 0, -0.5), (3, 0, -0.5), (3, 0, -4), (-3, 0, -4)], (176, 164, 148)),
        "backdrop": sheet([(-3, 0, -4), (3, 0, -4), (3, 3, -4), (-3, 3, -4)], (206, 212, 218)),
    }
    lost = box((0.3, 0.3, 0.3), (240, 190, 60)).transformed(_at((0.85, 0.0, -2.9)))
    members = {i: box(extents, COLORS[i]).transformed(_at(base)) for i, (base, extents, _) in BOXES.items()}

    seen = [*members.values(), lost, *surfaces.values()]
    picture = render([mesh.transformed(camera_from_world) for mesh in seen], camera)
    ids = np.where((picture.ids >= 0) & (picture.ids <= len(members)), picture.ids + 1, 0).astype(np.uint16)
    write_png(folder / "photo.png", picture.color)
    write_png(folder / "masks.png", ids)
    np.save(folder / "depth.npy", picture.depth)
    np.save(folder / "limit.npy", picture.depth)
    (folder / "graph.json").write_text("{}")
    for surface, mesh in surfaces.items():
        save_mesh(mesh.transformed(camera_from_world), folder / f"{surface}.npz")

    scores = score_objects(
        {i: mesh.transformed(camera_from_world) for i, mesh in members.items()},
        picture.color,
        ids,
        picture.depth,
        camera,
    )
    placed = tuple(_placed(store, folder, i, scores[i]) for i in BOXES) if objects else ()
    failures = tuple(
        Failure(stage="generate", object=i, error="ArithmeticError: no surface came out")
        for i in ((LOST,) if objects else (*BOXES, LOST))
    )
    parts = [
        Part(item.name, item.label, box(BOXES[item.id][1], COLORS[item.id]), np.array(item.world_from_object), {})
        for item in placed
    ]
    if shifted is not None:
        moved = {item.name: _at((0.2, 0, 0)) for item in placed if item.id == shifted}
        parts = [Part(p.name, p.label, p.mesh, moved.get(p.name, np.eye(4)) @ p.world_from_part, {}) for p in parts]
    background = tuple(Part(n, n, mesh, np.eye(4), {}) for n, mesh in surfaces.items())
    write_glb(folder / "scene.glb", PartScene(tuple(parts), background, camera, world_from_camera, {}))

    labels = {i: label for i, (_, _, label) in BOXES.items()} | {LOST: "yellow box"}
    return ToyScene(
        photo=Photo(
            name=name,
            image=artifact(store, folder / "photo.png"),
            alpha=None,
            masks=None,
            depth=None,
            width=width,
            height=height,
            original_width=4 * width,
            original_height=4 * height,
            focal_35mm=None,
        ),
        instances=Instances(
            masks=artifact(store, folder / "masks.png"),
            items=tuple(
                Instance(id=i, label=label, score=0.9 - 0.05 * i, box=(0, 0, 1, 1), area=int((ids == i).sum()))
                for i, label in labels.items()
            ),
            backend="regions",
            licence="none: no weights",
        ),
        depth=Depth(
            depth=artifact(store, folder / "depth.npy"),
            intrinsics=camera,
            intrinsics_source="default",
            metres=METRES,
            uncertainty=0.15,
            relief_error=0.2,
            backend="ground",
            licence="none: no weights",
            warnings=("the metres are assumed",),
        ),
        layout=Layout(
            intrinsics=camera,
            world_from_camera=matrix4(world_from_camera),
            floor=Plane(normal=(0, -1, 0), offset=1.1),
            floor_source="ransac",
            surfaces=(),
            supports=(),
            limit=artifact(store, folder / "limit.npy"),
            backend="planes",
            warnings=("the metres are assumed",),
        ),
        scene=Scene(
            graph=artifact(store, folder / "graph.json"),
            metres=METRES,
            intrinsics=camera,
            world_from_camera=matrix4(world_from_camera),
            objects=placed,
            surfaces=tuple(Surface(name=n, mesh=artifact(store, folder / f"{n}.npz")) for n in surfaces),
            failures=failures,
        ),
        export=Export(files=(("scene.glb", artifact(store, folder / "scene.glb")),)),
        timings=Timings(
            items=tuple(
                StageTiming(stage=stage, object=item, seconds=seconds)
                for stage, item, seconds in (
                    ("read", None, 0.21),
                    ("segment", None, 1.9),
                    ("depth", None, 0.35),
                    ("generate", 1, 1.25),
                    ("generate", 2, 1.5),
                    ("compose", None, 0.8),
                )
            )
        ),
    )


def artifact(store: Store, path: Path) -> Artifact:
    """The record of a file below the store's root."""
    relative = path.relative_to(store.root).as_posix()
    return Artifact(path=relative, sha256=sha256_file(path), bytes=path.stat().st_size)


def _placed(store: Store, folder: Path, object_id: int, scores: Scores) -> PlacedObject:
    base, extents, label = BOXES[object_id]
    save_mesh(box(extents, COLORS[object_id]), folder / f"{object_id}.npz")
    return PlacedObject(
        id=object_id,
        name=f"object_{object_id}",
        label=label,
        mesh=artifact(store, folder / f"{object_id}.npz"),
        world_from_object=matrix4(_at(base)),
        scale=1.0,
        support=SUPPORTS[object_id],
        backend="inflate",
        licence="none: no weights",
        seed=object_id - 1,
        score=0.9 - 0.05 * object_id,
        scores=scores,
        topology=Topology(closed=True, pieces=1, genus=0),
    )


def _at(position: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, 3] = position
    return matrix
