"""All objects at their places: scaled together, standing on what carries them, each relation with its evidence."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import networkx as nx
import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, Integer
from scipy import ndimage

from scenegen.camera import project, rays, resized
from scenegen.compute.recent import OF_OBJECTS, reused
from scenegen.faults import about_object
from scenegen.geometry.distance import distances
from scenegen.geometry.mesh import TexturedMesh, check_object
from scenegen.geometry.render import RayCaster
from scenegen.records import BACKGROUND_SUPPORT, Carrier, Intrinsics, Support
from scenegen.scene.foot import with_hidden_foot
from scenegen.scene.graph import occlusions, support_graph
from scenegen.scene.layout import FLOOR, FOOT_HIDDEN, Floor, hidden_below, without_cycles
from scenegen.scene.placement import Fit, gap_above
from scenegen.scene.room import MOST_ROOM
from scenegen.scene.sizes import SIZES
from scenegen.scene.solve import Candidate, Order, solve_scales
from scenegen.scene.underside import base, centre_of_mass, standing

POINTS = 600
"""Of a surface that are looked at while scales are found."""
COARSE = 6
"""Pixels of the photo per ray with which silhouettes are compared."""
SILHOUETTE, SPIKE = 64, 2
"""Cells of a silhouette along each side, and half the width of what counts as a spike of it."""
HIDDEN_LOW = 0.05
"""How far an underside that is not seen may reach below all that is seen, as a share of the object's height and at most as far
as that of a ball: a made one that reaches farther is wrong there."""
BESIDE = 0.02
"""Least step in depth, as a share of it, that says which of two objects is before the other."""
SIZE_SPREAD = 0.2
"""Standard deviation of the logarithm of a size that is found, about the true one."""
SURE = 0.5
"""From this confidence on a label says how large an object is."""
GAP_M, GAP_SHARE = 0.002, 0.01
"""An object stands on what is no farther below it than this, or than this share of its height."""
LEVEL_M, LEVEL_SHARE = 0.004, 0.04
"""How uneven a surface may be to count as level: metres, or a share of the width of what stands on it."""
FLAT_BAND = 0.25
"""Share of its height up to which an object may meet what it stands on."""
SEAT_SHARE = 0.25
"""The same where it stands on a level surface of another object: there its underside is mostly made up."""
SEVERAL_REACH = 0.01
"""Largest relative change of a scale that several photos tell."""
TOLD_REACH = 1.0
"""The same where the user says how an object stands, or before what it lies."""
SAID = 2.0
"""Counts as share of a contact that the user tells: more than any that is seen."""
STEADY_DEG = 1.0
"""Gravity may turn by this much before what stands tips over."""
HIGHEST, SPIKES = 95.0, 98.0
"""Percentile of the heights below an object that it stands on, and that above which a made surface has spikes."""
NEAR_BACKGROUND = 0.25
"""An object hangs on the background where that is no farther behind it than this share of its size."""
SEEN_CONTACT = 0.2
"""Share of the lower outline that must be seen to meet the background at its own depth for it to be carried there."""
FEW_PIXELS, FEW = 4, 0.002
"""Of an object, the least number and share: fewer may be errors of its mask."""
FOOT_SHARE = 0.02
"""How far above the floor, as a share of its size, an object may be seen to end and still reach it."""
MEASURED = 0.02
"""Relief error up to which depth tells how much an object leans."""
LEAN_MEASURED_DEG, LEAN_ESTIMATED_DEG = 3.0, 18.0
"""How far an object may be set upright where depth was measured, and where it was estimated."""


@dataclass(frozen=True, eq=False)
class Unplaced:
    """An object before it is scaled."""

    mesh: TexturedMesh
    """Camera frame, at scale 1."""
    depth: Float[np.ndarray, "h w"]
    """z-depth of its surface at its mask at scale 1, 0 elsewhere."""
    fit: Fit
    label: str
    label_confidence: float | None


@dataclass(frozen=True, eq=False)
class Arranged:
    """An object at its place."""

    scale: float
    mesh: TexturedMesh
    """Camera frame."""
    support: Carrier
    level: float | None
    """Height over the floor of the plane it stands on, metres."""
    evidence: dict[str, float | bool]


@dataclass(frozen=True, eq=False)
class View:
    """What the photo says of the whole scene."""

    ids: Integer[np.ndarray, "h w"]
    z: Float[np.ndarray, "h w"]
    """z-depth, 0 where unknown."""
    limit: Float[np.ndarray, "h w"]
    """z-depth of the background behind every pixel, 0 where unknown."""
    camera: Intrinsics
    floor: Floor
    supports: Sequence[Support]
    """As the picture suggests them."""
    uncertainty: float
    """Of the depth, relative."""
    relief_error: float


@dataclass(frozen=True)
class Told:
    """What the user says of where objects are, which comes before what the photo suggests."""

    stands: Mapping[int, Carrier] = field(default_factory=dict)
    """By object: what carries it."""
    before: Sequence[tuple[int, int]] = ()
    """Pairs of which the first lies before the second."""
    distances: Mapping[int, float] = field(default_factory=dict)
    """By object: its distance over what depth says. It stays there."""

    def among(self, objects: Collection[int]) -> Told:
        """What it says of these objects alone."""
        return Told(
            {
                child: on
                for child, on in self.stands.items()
                if child in objects and (not on or isinstance(on, str) or on in objects)
            },
            [pair for pair in self.before if all(number in objects for number in pair)],
            {number: factor for number, factor in self.distances.items() if number in objects},
        )

    def reach(self, number: int) -> float | None:
        """Largest relative change of an object's scale; None if nothing is said of it."""
        if number in self.distances:
            return 0.0
        told = number in self.stands or any(number in pair for pair in self.before)
        return TOLD_REACH if told else None


def arrange(
    objects: Mapping[int, Unplaced], view: View, kept: Mapping[int, Arranged], reach: float, told: Told = Told()
) -> dict[int, Arranged]:
    """Every object at its place, by id; those of `kept` just as they are there, but for the evidence.

    Args:
        objects: by id.
        view: the photo.
        kept: what an earlier run has arranged.
        reach: largest relative change of a scale from what depth says; 0 leaves objects where depth says, as they are.
        told: what the user says of some of them.

    Raises:
        ObjectError: if one of the objects cannot be placed.
    """
    told = told.among(objects)
    moved = {number: told.distances.get(number, 1.0) for number in objects}
    objects = {number: replace(item, fit=item.fit.times(moved[number])) for number, item in objects.items()}
    supporters = _supporters(objects, view, told)
    candidates = {}
    for number, item in objects.items():
        with about_object(number):
            candidates[number] = _candidate(number, item, supporters.get(number), view, kept.get(number), reach, told)
    overlapping = overlapping_pairs({number: item.mesh for number, item in objects.items()}, view.camera)
    blocking = {*itertools.chain(*overlapping), *supporters.values(), *supporters}
    for number in sorted(blocking):
        with about_object(number):
            mesh = objects[number].mesh
            candidates[number] = replace(candidates[number], solid=distances(mesh.vertices, mesh.faces))
    scales = solve_scales(candidates, overlapping, orders(objects, view, told.before), view.floor.offset)
    scales |= {number: place.scale for number, place in kept.items()}
    arranged: dict[int, Arranged] = {}
    lean = LEAN_MEASURED_DEG if view.relief_error <= MEASURED else LEAN_ESTIMATED_DEG
    scaled = {
        number: replace(item.mesh, vertices=(item.mesh.vertices.astype(np.float64) * scales[number]).astype(np.float32))
        for number, item in objects.items()
    }
    for number in _supporters_first(candidates):
        with about_object(number):
            arranged[number] = _stood(
                number,
                objects[number],
                scaled,
                scales[number],
                candidates[number],
                arranged,
                view,
                kept.get(number),
                lean,
                reach,
                told,
            )
            check_object(arranged[number].mesh)
    return arranged


def overlapping_pairs(meshes: Mapping[int, TexturedMesh], camera: Intrinsics) -> list[tuple[int, int]]:
    """Pairs of objects whose whole silhouettes overlap: no others can ever come to lie in one another."""
    small = resized(camera, max(8, camera.width // COARSE), max(8, camera.height // COARSE))
    covered = {i: _covered(mesh.vertices, mesh.faces, small) for i, mesh in meshes.items()}
    return [(a, b) for a, b in itertools.combinations(meshes, 2) if (covered[a] & covered[b]).any()]


@reused(OF_OBJECTS)
def _covered(
    vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"], camera: Intrinsics
) -> Bool[np.ndarray, "n"]:
    """The pixels at which a mesh is seen, row by row."""
    directions = rays(camera).reshape(-1, 3)
    return RayCaster(vertices, faces).blocked(np.zeros_like(directions), directions)


def orders(objects: Mapping[int, Unplaced], view: View, told: Sequence[tuple[int, int]] = ()) -> list[Order]:
    """Which of two objects is before the other: as the user says, else where they share an outline and depth steps clearly."""
    depth = np.zeros(view.ids.shape)
    for item in objects.values():
        depth = np.where(item.depth > 0, item.depth, depth)
    made = occlusions(view.ids, depth)
    found = []
    for front, behind in told:
        found.append(Order(front, behind, _distance(objects[front]) / _distance(objects[behind])))
    said = {frozenset(pair) for pair in told}
    for (front, behind), seen in occlusions(view.ids, view.z).items():
        if front not in objects or behind not in objects or {front, behind} in said:
            continue
        step = made.get((front, behind), {}).get("depth_step_m")
        back = made.get((behind, front), {}).get("depth_step_m")
        if step is None and back is None:
            continue
        distance = _distance(objects[behind])
        if seen["depth_step_m"] > BESIDE * distance * objects[behind].fit.scale:
            ratio = 1 - (step if step is not None else -(back or 0.0)) / distance
            found.append(Order(front, behind, max(ratio, 1e-3)))
    return found


def _distance(item: Unplaced) -> float:
    """z-depth of what is seen of an object, at scale 1."""
    return float(np.median(item.depth[item.depth > 0]))


def _supporters(objects: Mapping[int, Unplaced], view: View, told: Told) -> dict[int, int]:
    """The object that each is said, or else seen, to stand on, for those that do."""
    said = [
        Support(child=child, parent=on, contact_share=SAID) for child, on in told.stands.items() if isinstance(on, int)
    ]
    seen = [support for support in view.supports if support.child not in told.stands]
    known = [each for each in (*said, *seen) if each.child in objects and each.parent in objects]
    return {each.child: each.parent for each in without_cycles(known) if each.parent != FLOOR}


def _supporters_first(candidates: Mapping[int, Candidate]) -> list[int]:
    """Sorted by the number of objects between each and the floor, then by id; what hangs in the air comes last, with all that
    stands on it."""
    stands = support_graph((item.supporter or FLOOR, number) for number, item in candidates.items())
    level = {child: number for number, children in enumerate(nx.topological_generations(stands)) for child in children}
    hanging = [number for number, item in candidates.items() if item.supporter is None and not item.on_floor]
    in_air = set(hanging).union(*(nx.descendants(stands, number) for number in hanging))
    return sorted(candidates, key=lambda number: (number in in_air, level[number], number))


def _candidate(
    number: int, item: Unplaced, supporter: int | None, view: View, kept: Arranged | None, reach: float, told: Told
) -> Candidate:
    vertices = item.mesh.vertices.astype(np.float64)
    scale = item.fit.scale if kept is None else kept.scale
    lowest = _lowest(item.mesh, scale, view)
    slack = reach if kept is None else 0.0
    if item.fit.views > 1:
        slack = min(slack, SEVERAL_REACH)
    smallest, largest = scale / (1 + slack) - 1e-9, scale * (1 + min(slack, MOST_ROOM)) + 1e-9
    touching = -view.floor.offset / lowest if lowest < 0 else np.inf
    on_floor = supporter is None and smallest <= touching <= min(largest, farthest(item, view))
    if number in told.stands:
        on_floor = told.stands[number] == FLOOR and bool(np.isfinite(touching))
    said = told.reach(number)
    if kept is None and said is not None:
        smallest, largest = scale / (1 + said) - 1e-9, scale * (1 + said) + 1e-9
    return Candidate(
        scale=scale,
        spread=max(view.uncertainty, item.fit.spread, 1e-3),
        smallest=smallest,
        largest=largest,
        size=float(np.ptp(vertices, axis=0).max()),
        lowest=lowest,
        on_floor=on_floor,
        supporter=supporter,
        points=_without_underside(vertices[:: max(1, len(vertices) // POINTS)], lowest, view.floor),
        solid=None,
        known=_known_scale(item, view),
    )


def _lowest(mesh: TexturedMesh, scale: float, view: View) -> float:
    """Height over the camera of what the object may stand on, at scale 1; spikes that end at the floor are legs."""
    heights = mesh.vertices.astype(np.float64) @ view.floor.normal
    tip = float(heights.min())
    near = max(GAP_M, GAP_SHARE * scale * float(np.ptp(heights)))
    return tip if abs(view.floor.offset + scale * tip) <= near else lowest_point(mesh, view)


def _without_underside(points: Float[np.ndarray, "n 3"], lowest: float, floor: Floor) -> Float[np.ndarray, "n 3"]:
    """Points below what an object may stand on, raised to it: as `scenegen.scene.underside` will do."""
    return points + np.maximum(lowest - points @ floor.normal, 0)[:, None] * floor.normal


def farthest(item: Unplaced, view: View) -> float:
    """The scale at which the object, as it is seen, reaches the background behind it, as far as that is known."""
    told = (item.depth > 0) & (view.limit > 0)
    if not told.any():
        return np.inf
    return float(np.median(view.limit[told] / item.depth[told])) * (1 + 2 * view.uncertainty)


def lowest_point(mesh: TexturedMesh, view: View) -> float:
    """Height over the camera of the lowest point that an object may stand on, negative if it is below it.

    Thin spikes of its silhouette are left out: an outline has them. Below what is left is what was made, as far as that is
    likely.
    """
    return _lowest_likely(mesh.vertices, mesh.faces, view.camera, view.floor.normal)


@reused(OF_OBJECTS)
def _lowest_likely(
    corners: Float32[np.ndarray, "v 3"],
    faces: Int32[np.ndarray, "f 3"],
    camera: Intrinsics,
    up: Float[np.ndarray, "3"],
) -> float:
    vertices = corners.astype(np.float64)
    heights = vertices @ up
    if vertices[:, 2].min() <= 0:  # beside or behind the camera, where another photo shows it
        return float(heights.min())
    outline = project(camera, vertices)
    low, high = outline.min(axis=0), outline.max(axis=0)
    steps = (np.arange(SILHOUETTE) + 0.5) / SILHOUETTE
    u, v = np.meshgrid(low[0] + steps * (high[0] - low[0]), low[1] + steps * (high[1] - low[1]))
    directions = rays(camera, np.stack([u, v], axis=-1)).reshape(-1, 3)
    distance = RayCaster(corners, faces).cast(np.zeros_like(directions), directions).distance
    covered = np.pad(np.isfinite(distance).reshape(u.shape), SPIKE)
    body = ndimage.binary_opening(covered, np.ones((3, 3)), iterations=SPIKE)[SPIKE:-SPIKE, SPIKE:-SPIKE].ravel()
    if not body.any():
        return float(heights.min())
    seen = (directions[body] * distance[body][:, None]) @ up
    return max(float(heights.min()), float(seen.min()) - HIDDEN_LOW * float(np.ptp(seen)))


def _known_scale(item: Unplaced, view: View) -> tuple[float, float] | None:
    size = SIZES.get(item.label)
    if size is None or (item.label_confidence is not None and item.label_confidence < SURE):
        return None
    vertices = item.mesh.vertices.astype(np.float64)
    heights = vertices @ view.floor.normal
    found = float(np.ptp(heights)) if size.measure == "height" else float(np.ptp(vertices, axis=0).max())
    return size.metres / max(found, 1e-9), float(np.exp(np.hypot(np.log(size.spread), SIZE_SPREAD)))


def _stood(
    number: int,
    item: Unplaced,
    all_scaled: Mapping[int, TexturedMesh],
    scale: float,
    candidate: Candidate,
    others: Mapping[int, Arranged],
    view: View,
    kept: Arranged | None,
    lean: float,
    reach: float,
    told: Told,
) -> Arranged:
    """The object made to stand on what carries it, if that can be told."""
    scaled = all_scaled[number]
    evidence: dict[str, float | bool] = {
        "scale_from_depth": round(item.fit.scale / told.distances.get(number, 1.0), 6),
        "depth_spread": round(item.fit.spread, 6),
        "moved": round(scale / item.fit.scale - 1, 6),
    }
    seen = next((s for s in view.supports if s.child == number), None)
    if seen is not None:
        evidence["contact_share"] = seen.contact_share
    if kept is not None:
        if kept.level is not None and reach > 0 and view.floor.offset > kept.level:
            evidence |= _based(kept.mesh, replace(view.floor, offset=view.floor.offset - kept.level))
        return replace(kept, evidence=evidence)
    support: Carrier
    lowest = view.floor.offset + scale * candidate.lowest
    if number in told.stands:
        evidence["told"] = True
        support, level, gap = _told_carrier(scaled, lowest, told.stands[number], others, view)
    else:
        support, level, gap = _carrier(scaled, lowest, candidate.supporter, others, view)
    if gap is not None:
        evidence["gap_m"] = round(gap, 5)
    mesh = scaled
    if level is not None and reach > 0 and view.floor.offset > level:
        plane = replace(view.floor, offset=view.floor.offset - level)
        made = standing(scaled, plane, lean if _is_upright(scaled, plane) else min(lean, LEAN_MEASURED_DEG))
        mesh = made.mesh
        evidence |= {**_based(mesh, plane), "set_upright_deg": made.lean_deg}
    if number not in told.stands and (support is None or evidence.get("steady_deg", STEADY_DEG) < STEADY_DEG):
        hidden = hidden_below(view.z, view.ids, number)
        whole = None
        if hidden >= FOOT_HIDDEN and reach > 0:
            hiding = [mesh for other, mesh in all_scaled.items() if other != number]
            whole = with_hidden_foot(scaled, number, view.ids, hiding, view.camera, view.floor)
        if whole is not None:
            support, level, mesh = FLOOR, 0.0, whole
            evidence |= {"foot_hidden": round(hidden, 3), "foot_made": True, **_based(mesh, view.floor)}
        elif hidden >= FOOT_HIDDEN or (support is None and _hangs(number, item, scaled, scale, seen, view)):
            support, level, mesh = BACKGROUND_SUPPORT, None, scaled
            evidence["foot_hidden"] = round(hidden, 3)
    return Arranged(scale, mesh, support, level, evidence)


def _is_upright(mesh: TexturedMesh, level: Floor) -> bool:
    """Whether an object is as tall as it is wide: of others, as of fruit and cars, a lean says nothing."""
    vertices = mesh.vertices.astype(np.float64)
    across = np.linalg.svd(level.normal[None])[2][1:]
    return bool(np.ptp(level.heights(vertices)) >= np.ptp(vertices @ across.T, axis=0).max())


def _based(mesh: TexturedMesh, level: Floor) -> dict[str, float]:
    """How an object stands on a level plane, as evidence."""
    found = base(mesh.vertices, centre_of_mass(mesh.vertices, mesh.faces), level)
    return {"base_m2": round(found.area, 6), "steady_deg": round(found.steady_deg, 2)}


def _carrier(
    item: TexturedMesh, lowest: float, seen: int | None, others: Mapping[int, Arranged], view: View
) -> tuple[Carrier, float | None, float | None]:
    """What an object stands on by its place: the one that is seen below it, the floor, or any other.

    Args:
        item: scaled.
        lowest: height over the floor of the lowest point that it may stand on.
        seen: the object that the picture shows it on.
        others: objects that are placed already.
        view: the photo.

    Returns:
        What carries it; the height of the level plane that it stands on, if that is level; the gap between them. All None if it
        stands on nothing.
    """
    height = max(float(view.floor.heights(item.vertices.astype(np.float64)).max()) - lowest, 1e-6)
    near = max(GAP_M, GAP_SHARE * height)
    if seen is not None and seen in others:
        found = _on(item, lowest, height, seen, others[seen].mesh, view.floor)
        if found is not None:
            return found
        gap = gap_above(item.vertices.astype(np.float64), others[seen].mesh, view.floor)
        if gap is not None and abs(gap) <= near:
            return seen, None, gap
    if lowest <= near:
        return FLOOR, 0.0, lowest
    seats = [_on(item, lowest, height, number, other.mesh, view.floor) for number, other in others.items()]
    return min((seat for seat in seats if seat is not None), key=lambda seat: abs(seat[2]), default=(None, None, None))


def _told_carrier(
    item: TexturedMesh, lowest: float, told: Carrier, others: Mapping[int, Arranged], view: View
) -> tuple[Carrier, float | None, float | None]:
    """As `_carrier`, if the user says what carries the object; it is made to stand level where it is near enough for that."""
    height = max(float(view.floor.heights(item.vertices.astype(np.float64)).max()) - lowest, 1e-6)
    if told == FLOOR:
        return FLOOR, 0.0 if abs(lowest) <= max(GAP_M, SEAT_SHARE * height) else None, lowest
    if isinstance(told, int) and told in others:
        found = _on(item, lowest, height, told, others[told].mesh, view.floor)
        return found or (told, None, gap_above(item.vertices.astype(np.float64), others[told].mesh, view.floor))
    return (None if isinstance(told, int) else told), None, None


def _on(
    item: TexturedMesh, lowest: float, height: float, number: int, other: TexturedMesh, floor: Floor
) -> tuple[int, float, float] | None:
    """As `_carrier`, if an object stands on another.

    It stands on the level surface below it. What was made there may be uneven, since what stands on it hides it: then it stands
    where it is seen to end, if that lies among the heights of the surface below.
    """
    below = _below(item, other, floor)
    if below is None:
        return None
    highest = float(np.percentile(below.tops, HIGHEST))
    if below.carries(item, highest, LEVEL_SHARE) and abs(lowest - highest) <= max(GAP_M, SEAT_SHARE * height):
        return number, highest, lowest - highest
    near = max(GAP_M, GAP_SHARE * height)
    middle, spike = (float(np.percentile(below.tops, share)) for share in (50, SPIKES))
    if middle - near <= lowest <= spike + near and below.carries(item, lowest, SEAT_SHARE, around=True):
        return number, lowest, lowest - float(np.clip(lowest, middle, spike))
    return None


@dataclass(frozen=True, eq=False)
class _Below:
    """What lies below an object."""

    low: Float[np.ndarray, "n 3"]
    """Points of the object that are over it."""
    tops: Float[np.ndarray, "n"]
    """Height over the floor of what is below each."""
    floor: Floor

    around: Float[np.ndarray, "m 3"]
    """Points of what lies there, as far as it is seen from above within the object's width."""

    def carries(self, item: TexturedMesh, height: float, uneven: float, around: bool = False) -> bool:
        """Whether the object's centre of mass is over what lies at a height; that may be uneven by a share of its width.

        With `around` what is seen beside the object counts, too: the object hides what is below it.
        """
        vertices = item.vertices.astype(np.float64)
        across = np.linalg.svd(self.floor.normal[None])[2][1:]
        width = float(np.ptp(vertices @ across.T, axis=0).max())
        level = replace(self.floor, offset=self.floor.offset - height)
        carrying = self.low[np.abs(self.tops - height) <= max(LEVEL_M, uneven * width)]
        if around:
            near = self.around[np.abs(self.floor.heights(self.around) - height) <= max(LEVEL_M, uneven * width)]
            carrying = np.concatenate([carrying, near])
        feet = carrying - level.heights(carrying)[:, None] * self.floor.normal
        return base(feet, centre_of_mass(vertices, item.faces), level).steady_deg > 0


def _below(item: TexturedMesh, parent: TexturedMesh, floor: Floor) -> _Below | None:
    """What of `parent` lies below the underside of an object, if anything does."""
    vertices = item.vertices.astype(np.float64)
    heights = floor.heights(vertices)
    low = vertices[heights < heights.min() + FLAT_BAND * np.ptp(heights)]
    start = float(floor.heights(parent.vertices.astype(np.float64)).max()) + 1.0
    above = low + (start - floor.heights(low))[:, None] * floor.normal
    met = RayCaster(parent.vertices, parent.faces).cast(above, np.broadcast_to(-floor.normal, above.shape))
    over = met.triangle >= 0
    if not over.any():
        return None
    across = np.linalg.svd(floor.normal[None])[2][1:]
    beside, mine = parent.vertices.astype(np.float64), vertices @ across.T
    within = ((beside @ across.T > mine.min(axis=0)) & (beside @ across.T < mine.max(axis=0))).all(axis=1)
    return _Below(low[over], start - met.distance[over], floor, beside[within])


def _seen_foot(view: View, number: int) -> float:
    """Height over the floor of the lowest that depth shows of an object, but for a few pixels; infinite if it shows none."""
    seen = (view.ids == number) & (view.z > 0)
    heights = np.sort(view.floor.heights(rays(view.camera)[seen] * view.z[seen][:, None]))
    few = max(FEW_PIXELS, round(FEW * len(heights)))
    return float(heights[few]) if few < len(heights) else np.inf


def _hangs(number: int, item: Unplaced, scaled: TexturedMesh, scale: float, seen: Support | None, view: View) -> bool:
    """Whether something that was not made carries an object: it is seen to meet the background below, or to reach the floor by
    legs that its mesh lacks; or the background lies close behind it."""
    size = float(np.ptp(scaled.vertices, axis=0).max())
    if seen is not None and seen.parent == FLOOR and seen.contact_share >= SEEN_CONTACT:
        return True
    if _seen_foot(view, number) <= max(GAP_M, FOOT_SHARE * size):
        return True
    told = (item.depth > 0) & (view.limit > 0)
    if not told.any():
        return False
    return abs(float(np.median(view.limit[told] - scale * item.depth[told]))) < NEAR_BACKGROUND * size
