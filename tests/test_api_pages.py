"""The API pages: what they list has examples, the examples run, and the pages build without a warning."""

from __future__ import annotations

import contextlib
import doctest
import inspect
import re
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from export import conftest
from PIL import Image
from rooms import DESK, room

import scenegen
from scenegen.export.glb import write_glb
from scenegen.export.parts import PartScene
from scenegen.geometry.mesh import save_mesh
from scenegen.store.png import write_png

ROOT = Path(__file__).parents[1]
SLOW = ("stages.library", "scenegen.perception.prompted")
"""Modules whose examples make scenes or load networks."""

part_scene = conftest.part_scene


def listed() -> list[str]:
    """The names on the pages."""
    pages = sorted((ROOT / "docs" / "api").glob("*.md"))
    return [
        name for page in pages for name in re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    ]


def modules() -> list[str]:
    """The modules that the names on the pages are of."""
    names = ["stages.library" if name.removeprefix("scenegen.") in scenegen.__all__ else name for name in listed()]
    return list(dict.fromkeys(names))


def public(module: str) -> dict[str, Any]:
    """Its functions, and the functions and methods of its classes, that are public and its own."""
    found = {}
    for name, value in vars(import_module(module)).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module:
            continue
        if inspect.isclass(value):
            for inner, method in vars(value).items():
                plain = getattr(method, "__func__", method)
                if not inner.startswith("_") and inspect.isfunction(plain):
                    found[f"{name}.{inner}"] = plain
        elif inspect.isfunction(value):
            found[name] = value
    return found


def run_examples(module: str) -> int:
    """Runs every example of a module in the current folder. Returns how many there were."""
    runner = doctest.DocTestRunner(optionflags=doctest.FAIL_FAST)
    names = vars(import_module(module))
    for name, value in public(module).items():
        test = doctest.DocTestParser().get_doctest(inspect.getdoc(value) or "", dict(names), name, module, 0)
        failed, _ = runner.run(test)
        assert not failed, f"the example of {module}.{name} does not give what it says"
    return runner.summarize(verbose=False).attempted


@pytest.fixture
def here(tmp_path: Path, part_scene: PartScene) -> Any:
    """A folder with what the examples read: a published scene, a mesh, a photo and its masks."""
    published = tmp_path / "out" / "photo"
    published.mkdir(parents=True)
    write_glb(published / "scene.glb", part_scene)
    (published / "scene_graph.json").write_text('{"nodes": [{"id": "floor", "kind": "background"}], "edges": []}')
    save_mesh(part_scene.objects[0].mesh, tmp_path / "mesh.npz")
    desk = room(DESK, size=(160, 120))
    Image.fromarray(desk.image).save(tmp_path / "photo.jpg")
    write_png(tmp_path / "masks.png", desk.ids)
    with contextlib.chdir(tmp_path):
        yield tmp_path


def test_the_pages_list_what_is_public() -> None:
    names = {name.removeprefix("scenegen.") for name in listed()}
    elsewhere = {name for name in scenegen.__all__ if name.endswith("Error")} | {"Pixal3DPipeline"}
    assert names >= {*scenegen.__all__} - elsewhere | {"errors", "pixal3d.pipeline"}


@pytest.mark.parametrize("module", modules())
def test_every_public_function_has_an_example(module: str) -> None:
    assert not [name for name, value in public(module).items() if ">>>" not in (inspect.getdoc(value) or "")]


@pytest.mark.parametrize("module", [name for name in modules() if name not in SLOW])
def test_examples_give_what_they_say(module: str, here: Path) -> None:
    run_examples(module)


@pytest.mark.slow
@pytest.mark.parametrize("module", SLOW)
def test_slow_examples_give_what_they_say(module: str, here: Path) -> None:
    if module == "stages.library":
        settings = ["texture.size=64", "generate.resolution=32", "export.usdz=false"]
        scenegen.make("photo.jpg", masks="masks.png", fov=55, set=settings).save("out")
    assert run_examples(module) > 2


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mkdocstrings") is None, reason="the pages need the extra `docs`")
def test_the_pages_build_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    page = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    for name in ("scenegen.make", "scenegen.PhotoScene", "regenerate"):
        assert name in page
