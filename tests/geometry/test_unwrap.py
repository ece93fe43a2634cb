"""Atlases: no overlaps, nothing lost, and a plain one where the mesh, and nothing else, is too much for xatlas."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from processes import content, has_ended

from scenegen.errors import CrashError, LimitError, TransientError
from scenegen.geometry import unwrap as module
from scenegen.geometry.bake import rasterised
from scenegen.geometry.unwrap import Atlas, face_atlas, unwrap


def ball() -> tuple[np.ndarray, np.ndarray]:
    mesh = trimesh.creation.icosphere(3)
    return np.asarray(mesh.vertices), np.asarray(mesh.faces, dtype=np.int32)


def check(atlas: Atlas, vertices: np.ndarray, faces: np.ndarray) -> None:
    """The same triangles in the same order, inside the unit square, overlapping nowhere."""
    np.testing.assert_array_equal(atlas.source[atlas.faces], faces)
    assert atlas.uv.min() >= 0
    assert atlas.uv.max() <= 1
    corners = atlas.uv[atlas.faces].astype(float)
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    areas = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / 2
    owners, _ = rasterised(atlas.uv, atlas.faces, 1024)
    # Overlapping triangles would cover fewer texels than their areas add up to.
    assert np.count_nonzero(owners >= 0) / 1024**2 == pytest.approx(areas.sum(), rel=0.05)


def test_xatlas_in_its_child() -> None:
    vertices, faces = ball()
    atlas = unwrap(vertices, faces, 512, timeout_s=60)
    assert atlas.warnings == ()
    check(atlas, vertices, faces)


def test_the_same_mesh_gives_the_same_atlas() -> None:
    vertices, faces = ball()
    first, second = (unwrap(vertices, faces, 512, timeout_s=60) for _ in range(2))
    np.testing.assert_array_equal(first.uv, second.uv)


@given(st.integers(1, 300))
def test_the_plain_atlas_holds_any_number_of_faces(count: int) -> None:
    faces = np.arange(3 * count, dtype=np.int32).reshape(-1, 3)
    atlas = face_atlas(faces)
    np.testing.assert_array_equal(atlas.source[atlas.faces], faces)
    assert atlas.uv.min() > 0
    assert atlas.uv.max() < 1


def test_the_plain_atlas_does_not_overlap() -> None:
    vertices, faces = ball()
    check(face_atlas(faces), vertices, faces)


def test_a_mesh_with_too_many_faces_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    vertices, faces = ball()
    monkeypatch.setattr(module, "MOST_FACES", len(faces) - 1)
    monkeypatch.setattr(module, "CHILD", "raise SystemExit(1)")
    atlas = unwrap(vertices, faces, 512, timeout_s=60)
    assert "not tried on 1280 faces" in atlas.warnings[0]
    check(atlas, vertices, faces)


@pytest.mark.parametrize(
    ("child", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"crashed \(SIGSEGV\)"),
        ("import os; os.abort()", r"crashed \(SIGABRT\)"),
        ("import sys; sys.stderr.write('RuntimeError: no charts'); sys.exit(3)", r"failed \(RuntimeError: no charts\)"),
    ],
)
def test_what_the_mesh_does_to_xatlas_leads_to_the_plain_atlas(
    monkeypatch: pytest.MonkeyPatch, child: str, said: str
) -> None:
    monkeypatch.setattr(module, "CHILD", child)
    vertices, faces = ball()
    atlas = unwrap(vertices, faces, 512, timeout_s=60)
    assert re.search(said, atlas.warnings[0])
    check(atlas, vertices, faces)


def test_an_atlas_of_another_mesh_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    vertices, faces = ball()
    real = module._xatlas_child
    monkeypatch.setattr(module, "_xatlas_child", lambda v, f, *rest: real(v, f[1:], *rest))
    atlas = unwrap(vertices, faces, 512, timeout_s=60)
    assert "another mesh" in atlas.warnings[0]
    check(atlas, vertices, faces)


@pytest.mark.parametrize(
    ("child", "timeout_s", "said"),
    [
        ("import time; time.sleep(60)", 0.5, "took more than 0.5 s"),
        ("import os; os.kill(os.getpid(), 9)", 60, "SIGKILL"),
        ("import os; os.kill(os.getpid(), 15)", 60, "SIGTERM"),
        ("raise MemoryError", 60, r"code 1 \(MemoryError\)"),
        ("import no_such_module", 60, "no_such_module"),
    ],
)
def test_what_may_pass_is_an_error(monkeypatch: pytest.MonkeyPatch, child: str, timeout_s: float, said: str) -> None:
    monkeypatch.setattr(module, "CHILD", child)
    with pytest.raises((CrashError, LimitError), match=said):
        unwrap(*ball(), 512, timeout_s)


def test_a_system_without_room_for_a_process_is_blamed_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(module.subprocess, "run", full)
    with pytest.raises(TransientError, match="cannot start a process"):
        unwrap(*ball(), 512, 60)


def test_no_temporary_folder_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "absent"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    assert unwrap(*ball(), 512, 60).warnings == ()


BUSY = """
import sys
sys.path.insert(0, sys.argv[1])
from scenegen.geometry import unwrap_child
def busy(*mesh):
    {busy}
unwrap_child.run_xatlas = busy
unwrap_child.answer(int(sys.argv[2]), {cpu_s})
"""


def test_the_child_has_a_limit_of_cpu_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHILD", BUSY.format(busy="while True: pass", cpu_s=1))
    with pytest.raises(CrashError, match="SIGXCPU"):
        unwrap(*ball(), 512, 60)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread ends the child, which native code holds up")
def test_the_child_ends_with_a_killed_parent_even_in_native_code(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    # PyDLL keeps the interpreter's lock, so that no thread of Python runs meanwhile.
    busy = f"import ctypes, os; open({str(pid)!r}, 'w').write(str(os.getpid())); ctypes.PyDLL(None).sleep(600)"
    code = f"""
import numpy as np
from scenegen.geometry import unwrap
unwrap.CHILD = {BUSY.format(busy=busy, cpu_s=600)!r}
unwrap.unwrap(np.zeros((3, 3)), np.zeros((1, 3), np.int32), 64, 600)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
    try:
        child = int(content(pid))
    finally:
        parent.kill()
        parent.wait()
    assert has_ended(child)
