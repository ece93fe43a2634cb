"""Refinement draws a wrong field to the pixels, and leaves alone what they do not show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenegen.camera import rays, transform
from scenegen.geometry.field import Field, cell_centres, cube_edge, metric_crop_from_latent, placed, surface
from scenegen.geometry.fill import outline_distance
from scenegen.geometry.generator import ObjectView
from scenegen.geometry.refine import (
    MEASURED,
    evened_front,
    refine,
    united,
    unseen,
    visible_front,
)
from scenegen.geometry.render import RayCaster
from scenegen.geometry.solid import is_closed, topology
from scenegen.records import Topology
from scenegen.scene.scoring import intersection_over_union
from tests.geometry.views import CENTRE, RADIUS, SIDE, WALL, sphere_depth, sphere_view, turned_view

RESOLUTION = 72


def ball_field(view_edge: float, matrix: np.ndarray, centre: np.ndarray, radius: float) -> Field:
    points = placed(cell_centres(32).reshape(-1, 3), matrix)
    distance = (np.linalg.norm(points - centre, axis=1) - radius) / view_edge
    return Field(distance.reshape(32, 32, 32).astype(np.float32))


@pytest.mark.parametrize(
    ("shift", "radius"), [((0.06, 0.04, 0.05), 0.7), ((0.0, 0.0, -0.1), 0.8), ((0.0, 0.0, 0.1), 0.55)]
)
def test_silhouette_and_front_of_a_wrong_ball_become_those_of_the_pixels(
    shift: tuple[float, float, float], radius: float
) -> None:
    view = sphere_view()
    edge = cube_edge(view)
    matrix = metric_crop_from_latent(view, edge)
    vertices, faces = surface(refine(ball_field(edge, matrix, CENTRE + shift, radius), view, edge, RESOLUTION))
    assert is_closed(faces)
    points = placed(vertices, matrix)
    directions = rays(view.crop.intrinsics).reshape(-1, 3)
    hits = RayCaster(points, faces).cast(np.zeros_like(directions), directions)
    silhouette = (hits.triangle >= 0).reshape(SIDE, SIDE)
    assert intersection_over_union(silhouette, view.mask > 0.5) > 0.96
    inner = outline_distance(view.mask > 0.5) > 8
    error = hits.distance.reshape(SIDE, SIDE)[inner] - view.depth[inner]
    assert np.abs(error).mean() < 0.5 * edge / RESOLUTION


def test_depth_that_is_not_trusted_draws_the_outline_only() -> None:
    """The depth is flat, and its floor cuts through the ball: it comes out as it was generated all the same."""
    view = sphere_view()
    flat = replace(
        view,
        depth=np.where(view.mask > 0.5, np.float32(1.5), view.depth),
        limit=np.full_like(view.limit, 1.4),
        relief_error=0.17,
    )
    edge = cube_edge(flat)
    matrix = metric_crop_from_latent(flat, edge)
    centre = CENTRE + np.array([0, 0, 0.2])
    vertices, faces = surface(refine(ball_field(edge, matrix, centre, RADIUS), flat, edge, RESOLUTION))
    assert is_closed(faces)
    points = placed(vertices, matrix)
    directions = rays(view.crop.intrinsics).reshape(-1, 3)
    hits = RayCaster(points, faces).cast(np.zeros_like(directions), directions)
    assert intersection_over_union((hits.triangle >= 0).reshape(SIDE, SIDE), view.mask > 0.5) > 0.95
    inner = outline_distance(view.mask > 0.5) > 12
    made = directions[inner.ravel()] * hits.distance[inner.ravel(), None]
    assert np.abs(np.linalg.norm(made - centre, axis=1) - RADIUS).mean() < 0.5 * edge / RESOLUTION


def test_the_hidden_side_stays_as_generated() -> None:
    view = sphere_view()
    edge = cube_edge(view)
    matrix = metric_crop_from_latent(view, edge)
    vertices, _ = surface(refine(ball_field(edge, matrix, CENTRE, RADIUS), view, edge, RESOLUTION))
    points = placed(vertices, matrix)
    behind = (points[:, 2] > CENTRE[2] + 0.2) & (points[:, 2] < matrix[2, 3] + 0.45 * edge)
    assert np.abs(np.linalg.norm(points[behind] - CENTRE, axis=1) - RADIUS).mean() < 0.02


def test_what_an_occluder_hides_is_not_carved() -> None:
    view = sphere_view(occluded=True)
    edge = cube_edge(view)
    matrix = metric_crop_from_latent(view, edge)
    hidden = unseen(view, visible_front(view))
    assert hidden[:, : int(0.3 * SIDE)].all()
    assert not hidden[:, SIDE // 2 :].any()
    vertices, _ = surface(refine(ball_field(edge, matrix, CENTRE, RADIUS), view, edge, RESOLUTION))
    points = placed(vertices, matrix)
    assert points[:, 0].min() < -0.5 * RADIUS
    assert sphere_depth(rays(view.crop.intrinsics)).max() > 0


def test_nothing_is_left_behind_the_background() -> None:
    view = sphere_view()
    edge = cube_edge(view)
    matrix = metric_crop_from_latent(view, edge)
    near = view.limit * 0 + 2.1
    limited = type(view)(view.image, view.mask, view.depth, near, view.up, view.crop)
    vertices, _ = surface(refine(ball_field(edge, matrix, CENTRE, RADIUS), limited, edge, RESOLUTION))
    assert placed(vertices, matrix)[:, 2].max() < 2.1 + edge / RESOLUTION


def test_a_full_cube_is_carved_to_the_cone_of_a_disc() -> None:
    view = sphere_view()
    edge = cube_edge(view)
    matrix = metric_crop_from_latent(view, edge)
    full = Field(np.full((16, 16, 16), -1.0, np.float32))
    refined = refine(full, view, edge, RESOLUTION)
    points = placed(cell_centres(RESOLUTION).reshape(-1, 3), matrix)
    # The sphere's outline is a circle about the axis: a cone of this slope.
    slope = RADIUS / np.sqrt(CENTRE[2] ** 2 - RADIUS**2)
    across = np.linalg.norm(points[:, :2], axis=1) / points[:, 2]
    front = sphere_depth((points / points[:, 2:]).astype(float)[:, None])[:, 0]
    clear = np.abs(across - slope) * points[:, 2] > 1.5 * edge / RESOLUTION
    clear &= (np.abs(points[:, 2] - front) > 1.5 * edge / RESOLUTION) & (np.abs(points[:, 2] - WALL) > 1e-3)
    inner = across < 0.9 * slope  # towards the outline the front is continued from a little inside
    expected = (across < slope) & (points[:, 2] > front) & (points[:, 2] < WALL)
    inside = (refined.values < 0).ravel()
    np.testing.assert_array_equal(inside[clear & inner], expected[clear & inner])
    assert not inside[clear & (across > slope)].any()


def test_what_is_seen_exists_even_if_nothing_was_generated() -> None:
    view = sphere_view()
    edge = cube_edge(view)
    refined = refine(Field(np.ones((16, 16, 16), np.float32)), view, edge, RESOLUTION)
    vertices, faces = surface(refined)
    directions = rays(view.crop.intrinsics).reshape(-1, 3)
    hits = RayCaster(placed(vertices, metric_crop_from_latent(view, edge)), faces).cast(
        np.zeros_like(directions), directions
    )
    seen = (hits.triangle >= 0).reshape(SIDE, SIDE)
    assert intersection_over_union(seen, view.mask > 0.5) > 0.95


def test_a_visible_surface_with_a_step_hangs_together() -> None:
    """Nothing was generated, and the depth jumps by a few cells, or by many: what is seen is one piece without handles."""
    view = sphere_view()
    edge = cube_edge(view)
    left = np.arange(SIDE)[None, :] < SIDE // 2
    for cells in (4, 20):
        depth = np.where(left, np.float32(1.5), np.float32(1.5 + cells * edge / RESOLUTION))
        stepped = replace(view, depth=np.where(view.mask > 0.5, depth, view.depth).astype(np.float32))
        edge = cube_edge(stepped)
        vertices, faces = surface(refine(Field(np.ones((16, 16, 16), np.float32)), stepped, edge, RESOLUTION))
        assert topology(vertices, faces) == Topology(closed=True, pieces=1, genus=0)


def test_no_ray_passes_between_the_parts_of_a_surface_that_is_only_estimated() -> None:
    """The depth steps back by many cells, at once or over a few pixels, as within a bowl behind its near rim; a tube that was
    generated all round holds the two parts together."""
    view = replace(sphere_view(), relief_error=0.1, limit=np.zeros((SIDE, SIDE), np.float32))
    inner = (outline_distance(view.mask > 0.5) > 4).ravel()
    directions = rays(view.crop.intrinsics).reshape(-1, 3)[inner]
    for pixels in (1, 8):
        back = np.clip((SIDE // 2 - np.arange(SIDE)) / pixels, 0, 1)[:, None]
        depth = np.where(view.mask > 0.5, 1.5 + 0.5 * back, view.depth).astype(np.float32)
        stepped = replace(view, depth=depth)
        edge = cube_edge(stepped)
        matrix = metric_crop_from_latent(stepped, edge)
        points = placed(cell_centres(32).reshape(-1, 3), matrix)
        aside = np.hypot(points[:, 0], points[:, 1]) / points[:, 2] / np.hypot(directions[:, 0], directions[:, 1]).max()
        tube = Field((np.abs(aside - 1) - 0.1).reshape(32, 32, 32).astype(np.float32))
        vertices, faces = surface(refine(tube, stepped, edge, RESOLUTION))
        caster = RayCaster(placed(vertices, matrix), faces)
        assert caster.blocked(np.zeros_like(directions), directions).all()
        assert topology(vertices, faces).pieces == 1


def test_a_thin_sheet_before_the_background_has_no_holes() -> None:
    view = sphere_view()
    slope = np.linspace(-0.3, 0.3, SIDE, dtype=np.float32)
    depth = np.where(view.mask > 0.5, 1.5 + slope[:, None] + 0.5 * slope[None, :], view.depth).astype(np.float32)
    sheet = replace(view, depth=depth, limit=depth)
    vertices, faces = surface(refine(Field(np.ones((16, 16, 16), np.float32)), sheet, cube_edge(sheet), RESOLUTION))
    assert topology(vertices, faces) == Topology(closed=True, pieces=1, genus=0)


def test_what_lies_deeper_than_the_cube_is_still_seen() -> None:
    """A slope that ends far behind the cube covers its mask nearly as well; the cube is narrower than the view there."""
    view = sphere_view()
    slope = np.broadcast_to(np.linspace(6.0, 1.5, SIDE, dtype=np.float32)[:, None], (SIDE, SIDE))
    view = replace(view, depth=slope.copy(), limit=np.zeros_like(view.limit))
    edge = cube_edge(view)
    matrix = metric_crop_from_latent(view, edge)
    vertices, faces = surface(refine(Field(np.ones((32, 32, 32), np.float32)), view, edge, RESOLUTION))
    directions = rays(view.crop.intrinsics).reshape(-1, 3)
    hits = RayCaster(placed(vertices, matrix), faces).cast(np.zeros_like(directions), directions)
    assert intersection_over_union((hits.triangle >= 0).reshape(SIDE, SIDE), view.mask > 0.5) > 0.85


def test_each_part_of_the_mask_has_a_piece() -> None:
    view = sphere_view()
    middle = np.abs(np.arange(SIDE) - SIDE / 2) < 4
    parted = replace(view, mask=np.where(middle[None, :], 0, view.mask).astype(np.float32), limit=view.depth * 0 + 1.6)
    edge = cube_edge(parted)
    vertices, faces = surface(refine(Field(np.ones((16, 16, 16), np.float32)), parted, edge, RESOLUTION))
    assert topology(vertices, faces) == Topology(closed=True, pieces=2, genus=0)


def test_outline_distance_is_measured_to_the_line_between_pixels() -> None:
    inside = np.zeros((8, 8), bool)
    inside[:, 3:6] = True
    np.testing.assert_allclose(outline_distance(inside)[0], [-2.5, -1.5, -0.5, 0.5, 1.5, 0.5, -0.5, -1.5])
    assert (outline_distance(np.ones((4, 4), bool)) > 0).all()


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(MEASURED + 0.001, 0.3))
def test_an_estimated_background_changes_nothing_of_an_object(seed: int, relief_error: float) -> None:
    view = replace(sphere_view(), relief_error=relief_error)
    noise = np.random.default_rng(seed).normal(0, 0.3, view.limit.shape)
    other = replace(view, limit=(view.limit * np.exp(noise)).astype(np.float32))
    edge = cube_edge(view)
    field = ball_field(edge, metric_crop_from_latent(view, edge), CENTRE, RADIUS)
    np.testing.assert_array_equal(refine(field, view, edge, 32).values, refine(field, other, edge, 32).values)


@pytest.mark.parametrize("degrees", [60, 90, -120])
def test_what_another_view_shows_bounds_what_the_first_does_not(degrees: float) -> None:
    """A ball drawn out along the line of sight keeps its length in one view, but not in two."""
    view = sphere_view()
    edge = cube_edge(view)
    matrix = metric_crop_from_latent(view, edge)
    points = placed(cell_centres(32).reshape(-1, 3), matrix)
    long = (np.linalg.norm((points - CENTRE) * [1, 1, 0.6], axis=1) - RADIUS) / edge
    field = Field(long.reshape(32, 32, 32).astype(np.float32))

    def agreement(view: ObjectView) -> float:
        """Silhouette IoU in the other camera."""
        vertices, faces = surface(refine(field, view, edge, RESOLUTION))
        other = turned_view(degrees)
        caster = RayCaster(transform(other.crop_from_main, placed(vertices, matrix)).astype(np.float32), faces)
        directions = rays(other.view.crop.intrinsics).reshape(-1, 3)
        seen = caster.cast(np.zeros_like(directions), directions).triangle.reshape(SIDE, SIDE) >= 0
        return intersection_over_union(seen, other.view.mask > 0.5)

    both = agreement(replace(view, others=(turned_view(degrees),)))
    assert both > 0.93
    assert both > agreement(view) + 0.02


def test_what_only_another_view_shows_is_drawn_to_its_depth() -> None:
    view = unbounded(sphere_view())
    edge = cube_edge(view)
    matrix = metric_crop_from_latent(view, edge)
    small = ball_field(edge, matrix, CENTRE, RADIUS - 0.07)

    def farthest(view: ObjectView) -> float:
        return float(placed(surface(refine(small, view, edge, RESOLUTION))[0], matrix)[:, 2].max())

    behind = turned_view(180)
    both = replace(view, others=(replace(behind, view=unbounded(behind.view)),))
    assert farthest(view) < CENTRE[2] + RADIUS - 0.06
    assert abs(farthest(both) - (CENTRE[2] + RADIUS)) < edge / RESOLUTION


def unbounded(view: ObjectView) -> ObjectView:
    return replace(view, limit=np.zeros_like(view.limit))


@given(
    a=st.floats(-5, 5),
    b=st.floats(-5, 5),
    width=st.one_of(st.just(0.0), st.floats(0.01, 4)),
)
def test_a_union_is_rounded_by_a_quarter_of_its_width_at_most_and_where_bodies_meet_only(
    a: float, b: float, width: float
) -> None:
    found = float(united(np.array([a]), np.array([b]), width)[0])
    assert min(a, b) - width / 4 - 1e-6 <= found <= min(a, b)
    if abs(a - b) >= width:
        assert found == min(a, b)


def test_steps_of_an_estimated_surface_are_evened_and_its_shape_is_kept() -> None:
    view = sphere_view()
    stepped = replace(view, depth=np.where(view.mask > 0.5, np.round(view.depth, 2), view.depth), relief_error=0.1)
    inner = outline_distance(view.mask > 0.5) > 8
    wrong, evened = (
        np.abs(front - view.depth)[inner].mean() for front in (visible_front(stepped), evened_front(stepped))
    )
    assert evened < 0.6 * wrong


def test_rounding_adds_nothing_beside_what_is_seen() -> None:
    """Hardly anything is generated, near everywhere; a board hides what is beside the mask."""
    view = replace(sphere_view(occluded=True), relief_error=0.1)
    edge = cube_edge(view)
    vertices, faces = surface(refine(Field(np.full((16, 16, 16), 0.03, np.float32)), view, edge, RESOLUTION))
    directions = rays(view.crop.intrinsics).reshape(-1, 3)
    hits = RayCaster(placed(vertices, metric_crop_from_latent(view, edge)), faces).cast(
        np.zeros_like(directions), directions
    )
    assert intersection_over_union((hits.triangle >= 0).reshape(SIDE, SIDE), view.mask > 0.5) > 0.95
