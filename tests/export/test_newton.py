"""The USD stage, read by Newton. Its 160 MB are in no extra: `pip install 'newton[importers]'` runs this."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from scenegen.export.bodies import body_of, with_bodies
from scenegen.export.parts import PartScene
from scenegen.export.usd import write_usd

newton = pytest.importorskip("newton", reason="`pip install 'newton[importers]'`")
warp = pytest.importorskip("warp")


@pytest.mark.slow  # it compiles its kernels when they are first used
def test_newton_reads_every_body_and_collider_without_a_warning(
    part_scene: PartScene, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    scene = with_bodies(part_scene, 500.0, 16)
    write_usd(tmp_path, scene)
    builder = newton.ModelBuilder()
    warp.init()  # which says what devices there are
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = builder.add_usd(str(tmp_path / "scene.usd"))
    assert "warning" not in capfd.readouterr().err.lower()
    bodies = {f"/scene/objects/{part.name}": part for part in scene.objects}
    assert set(found["path_body_map"]) == set(bodies)
    for path, part in bodies.items():
        assert builder.body_mass[found["path_body_map"][path]] == pytest.approx(body_of(part).mass, rel=1e-4)
    colliders = sum(len(part.hulls) for part in (*scene.objects, *scene.background))
    ground = 1
    shown = len(scene.objects) + len(scene.background)
    assert builder.shape_count == colliders + ground + shown
    box = body_of(scene.objects[0]).body.hulls[0].box
    assert box is not None
    shape = found["path_shape_map"]["/scene/objects/obj_01_box/geo/collider"]
    np.testing.assert_allclose(sorted(2 * np.array(builder.shape_scale[shape])), sorted(box.size), rtol=1e-3)
