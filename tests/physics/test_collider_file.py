"""Colliders that come back from their file as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh

from scenegen.physics.body import Hull, as_box, hull
from scenegen.physics.collider_file import load_colliders, save_colliders


def test_colliders_come_back_as_they_were(tmp_path: Path) -> None:
    ball = hull(trimesh.creation.icosphere(1, radius=0.1).vertices.astype(np.float32))
    box = as_box(hull(trimesh.creation.box((0.1, 0.2, 0.3)).vertices.astype(np.float32)))
    assert box is not None
    colliders: dict[str, tuple[Hull, ...]] = {"obj_01_cup": (ball, box), "obj_02_box": (box,) * 11, "floor": ()}
    for name in ("one.npz", "two.npz"):
        save_colliders(colliders, tmp_path / name)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    found = load_colliders(tmp_path / "one.npz")
    assert {name: len(hulls) for name, hulls in found.items()} == {"obj_01_cup": 2, "obj_02_box": 11}
    cup, lying = found["obj_01_cup"]
    np.testing.assert_array_equal(cup.vertices, ball.vertices)
    np.testing.assert_array_equal(cup.faces, ball.faces)
    assert (cup.vertices.dtype, cup.faces.dtype, cup.box) == (ball.vertices.dtype, ball.faces.dtype, None)
    assert lying.box is not None
    assert box.box is not None
    assert (lying.box.centre.tolist(), lying.box.size.tolist(), lying.box.yaw) == (
        box.box.centre.tolist(),
        box.box.size.tolist(),
        box.box.yaw,
    )
