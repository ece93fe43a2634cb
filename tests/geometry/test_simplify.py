from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import trimesh

from scenegen.geometry import simplify as simplify_module
from scenegen.geometry.simplify import simplify, thinned
from scenegen.geometry.solid import is_closed, volume


def ball(subdivisions: int) -> tuple[np.ndarray, np.ndarray]:
    mesh = trimesh.creation.icosphere(subdivisions)
    return np.asarray(mesh.vertices), np.asarray(mesh.faces, dtype=np.int32)


def test_a_simplified_ball_is_closed_and_keeps_its_volume() -> None:
    vertices, faces = ball(5)
    few, few_faces, warnings = simplify(vertices, faces, 800)
    assert len(few_faces) <= 800
    assert warnings == ()
    assert is_closed(few_faces)
    assert volume(few, few_faces) == pytest.approx(4 / 3 * np.pi, rel=0.04)


def test_threads_do_not_mix_their_meshes() -> None:
    meshes = [ball(5), (ball(5)[0] * [1, 2, 3], ball(5)[1])]
    alone = [simplify(*mesh, 500)[0] for mesh in meshes]
    with ThreadPoolExecutor(4) as executor:
        for index, (vertices, *_) in enumerate(executor.map(lambda i: simplify(*meshes[i % 2], 500), range(16))):
            np.testing.assert_array_equal(vertices, alone[index % 2])


def test_a_small_mesh_is_left_alone() -> None:
    vertices, faces = ball(1)
    _, same, _ = simplify(vertices, faces, 5000)
    np.testing.assert_array_equal(same, faces)


def test_an_open_mesh_is_left_alone_and_said_so() -> None:
    vertices, faces = ball(4)
    same, same_faces, warnings = simplify(vertices, faces[1:], 100)
    np.testing.assert_array_equal(same_faces, faces[1:])
    assert "not a closed manifold" in warnings[0]
    assert len(same) == len(vertices)


def test_the_shape_comes_before_the_budget() -> None:
    """Four faces are no ball: the tolerance ends first."""
    vertices, faces = ball(5)
    few, few_faces, _ = simplify(vertices, faces, 4)
    assert is_closed(few_faces)
    assert volume(few, few_faces) == pytest.approx(4 / 3 * np.pi, rel=0.15)


def test_closed_means_every_edge_is_met() -> None:
    _, faces = ball(2)
    assert is_closed(faces)
    assert not is_closed(faces[1:])
    assert not is_closed(np.concatenate([faces[1:], faces[:1, ::-1]]))  # one face turned around
    assert is_closed(np.concatenate([faces, faces]))  # four faces an edge
    assert not is_closed(np.concatenate([faces, faces[:1]]))
    assert not is_closed(np.zeros((0, 3), dtype=np.int32))


def test_volume_has_the_sign_of_the_winding() -> None:
    vertices, faces = ball(3)
    assert volume(vertices + 10, faces) == pytest.approx(-volume(vertices + 10, faces[:, ::-1]))
    assert volume(vertices, faces) > 0


def test_a_rough_mesh_stays_closed() -> None:
    vertices, faces = ball(5)
    vertices = vertices + np.random.default_rng(0).normal(0, 0.004, vertices.shape)
    few, few_faces, warnings = simplify(vertices, faces, 1000)
    assert warnings == ()
    assert 900 < len(few_faces) <= 1000
    assert is_closed(few_faces)
    assert volume(few, few_faces) == pytest.approx(4 / 3 * np.pi, rel=0.03)


def test_what_comes_out_of_thinning_open_is_simplified_the_other_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simplify_module, "thinned", lambda *given: (thinned(*given)[0], thinned(*given)[1][1:]))
    _, few_faces, warnings = simplify(*ball(5), 1000)
    assert is_closed(few_faces)
    assert len(few_faces) <= 1000
    assert warnings == ()
