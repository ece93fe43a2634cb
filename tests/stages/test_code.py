"""What of the code is in the keys: all that makes the result, and nothing that does not."""

from __future__ import annotations

import ast
import contextlib
import inspect
import logging
import re
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import numpy as np
import pytest

import scenegen
import stages
from scenegen.compute.runtime import Runtime
from scenegen.config import Config, DepthSettings, load_config
from scenegen.records import Source
from scenegen.store.png import write_png
from scenegen.store.store import Store
from stages import code, graph
from stages.code import Code, Sources, code_key, module_files
from stages.graph import image_to_scene
from stages.layers import local_submit
from stages.stage import Layers, Stage, function_name

PACKAGES = {"scenegen": Path(scenegen.__path__[0]), "stages": Path(stages.__path__[0])}
STAGES = [
    graph.READ,
    graph.SEGMENT,
    graph.DEPTH,
    graph.LAYOUT,
    graph.GENERATE,
    graph.COMPOSE,
    graph.EXPORT,
    graph.REPORT,
]
DEFAULT = Config()


# The project itself ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The project's packages, to be changed."""
    root = tmp_path_factory.mktemp("project")
    ignored = shutil.ignore_patterns("*.safetensors", "__pycache__", "train", "weights", "verify")
    for name, folder in PACKAGES.items():
        shutil.copytree(folder, root / name, ignore=ignored)
    return {name: root / name for name in PACKAGES}


@pytest.fixture(scope="module")
def sources(copies: dict[str, Path]) -> Sources:
    return Sources(module_files(copies))


@pytest.fixture(scope="module")
def before(sources: Sources) -> dict[str, Code]:
    return codes(sources)


def codes(sources: Sources) -> dict[str, Code]:
    return {stage.name: sources.code(*functions_of(stage)) for stage in STAGES}


def functions_of(stage: Stage[Any], config: Config = DEFAULT) -> list[str]:
    """What its key says of its code."""
    settings = {
        "segment": config.segment,
        "depth": DepthSettings(depth=config.depth, camera=config.camera),
        "generate": config.object_settings(1),
    }
    chosen = stage.backends(settings[stage.name]) if stage.name in settings else ()
    return [stage.code, *(function_name(part) for each in chosen for part in each.backend.parts)]


ALMOST_ALL = {"segment", "depth", "layout", "generate", "compose", "report"}
CHANGES = [
    ("scenegen/pixal3d/embedded.py", r"WIDENING = ", "WIDENING = 0.1 + ", {"generate"}),
    ("scenegen/scene/placement.py", r"ITERATIONS = ", "ITERATIONS = 1 + ", {"compose"}),
    ("scenegen/untrusted/photo.py", r"MIN_SIDE = ", "MIN_SIDE = 1 + ", {"read"}),
    ("scenegen/export/viewer/report.css", r"\A", "/* x */", {"report"}),
    ("scenegen/store/png.py", r"def read_png\(", "def read_png(one_more=1, *, ", ALMOST_ALL),
    ("scenegen/store/store.py", r"ABANDONED_AFTER_S = ", "ABANDONED_AFTER_S = 1 + ", set()),
    ("stages/workers/worker.py", r"GRACE_S = ", "GRACE_S = 1 + ", set()),
]


@pytest.mark.parametrize(("file", "pattern", "replacement", "changed"), CHANGES)
def test_a_change_counts_where_it_matters_and_nowhere_else(
    sources: Sources, before: dict[str, Code], file: str, pattern: str, replacement: str, changed: set[str]
) -> None:
    path = sources.files["scenegen"].parents[1] / file
    text = path.read_text()
    new, count = re.subn(pattern, replacement, text, count=1)
    assert count == 1, "the project has changed: choose another line"
    path.write_text(new)
    try:
        again = Sources(sources.files)
        again._modules = {name: module for name, module in sources._modules.items() if sources.files[name] != path}
        after = codes(again)
    finally:
        path.write_text(text)
    assert {name for name in before if before[name] != after[name]} == changed


def test_words_count_nowhere(copies: dict[str, Path], before: dict[str, Code]) -> None:
    """Every comment, blank line and layout gone, every docstring another, in every file."""

    class Reworded(ast.NodeTransformer):
        def visit_Expr(self, node: ast.Expr) -> ast.Expr:
            if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
                return ast.Expr(ast.Constant("Other words."))
            return node

    root = copies["scenegen"].parent
    texts = {path: path.read_text() for path in root.rglob("*.py")}
    for path, text in texts.items():
        path.write_text("# Other words.\n" + ast.unparse(Reworded().visit(ast.parse(text))))
    try:
        assert codes(Sources(module_files(copies))) == before
    finally:
        for path, text in texts.items():
            path.write_text(text)


INFRASTRUCTURE = {
    "scenegen.store.digest", "scenegen.store.entry", "scenegen.store.folder", "scenegen.store.lease", "scenegen.store.store",
    "scenegen.messages.progress", "scenegen.compute.runtime", "scenegen.records", "scenegen.errors", "stages.stage",
}  # fmt: skip
"""What hands a stage its inputs and takes its outputs, for which nothing in the stage's own code is looked up by name."""


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["training-free", "embedded"])
def test_every_function_that_a_stage_runs_is_in_its_code(tmp_path: Path, preset: str) -> None:
    rows, columns = np.mgrid[:96, :128]
    picture = np.full((96, 128, 3), (150, 120, 90), np.uint8)
    picture[rows < 40] = (200, 200, 210)
    ids = np.zeros((96, 128), np.uint16)
    ids[(abs(rows - 60) < 18) & (abs(columns - 60) < 16)] = 1
    picture[ids == 1] = (180, 30, 40)
    write_png(tmp_path / "photo.png", picture)
    write_png(tmp_path / "masks.png", ids)
    sources = Sources(module_files(PACKAGES))
    missing: set[str] = set()

    @contextlib.contextmanager
    def followed(stage: Any, settings: Any, object_id: int | None) -> Iterator[None]:
        search = code._Search(sources)
        for function in functions_of(stage, config):
            module, _, name = function.partition(":")
            search.follow(module, name)
        known = {(module, name) for module, name in search._followed}

        def note(frame: FrameType, event: str, argument: object) -> None:
            module, called = frame.f_globals.get("__name__", ""), frame.f_code
            written = called.co_flags & inspect.CO_OPTIMIZED and not called.co_filename.startswith("<")
            if event == "call" and written and module.partition(".")[0] in PACKAGES and module not in INFRASTRUCTURE:
                name = called.co_qualname.partition(".")[0]
                if (
                    not name.startswith("<") and (module, name) not in known
                ):  # lambdas at a module's top are in its constants
                    missing.add(f"{stage.name}: {module}:{name}")

        sys.setprofile(note)
        try:
            yield
        finally:
            sys.setprofile(None)

    store, runtime = Store(tmp_path / "store"), Runtime(device="cpu")
    source = Source(
        name="photo", photo=store.ingest(tmp_path / "photo.png"), masks=(store.ingest(tmp_path / "masks.png"),)
    )
    config = load_config(preset, overrides=["generate.max_faces=500", "generate.resolution=48", "texture.size=64"])
    with ThreadPoolExecutor(1) as executor:
        submit = local_submit(store, runtime, executor, Layers((followed,)))
        scene = image_to_scene(source, config, submit)
    assert len(scene.objects) == 1
    assert sorted(missing) == []


def test_threads_may_ask_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "user_cache_path", lambda name: tmp_path / "cache")
    code._code_once.cache_clear()
    code._sources.cache_clear()
    functions = ["stages.read:read", "stages.compose:compose"]
    with ThreadPoolExecutor(4) as executor:
        assert len(set(map(str, executor.map(code_key, functions * 4)))) == len(functions)


# Made-up code ---------------------------------------------------------------------------------------------------------


def made_up(folder: Path, **files: str) -> Code:
    """The code of `own.main:run`; of files, `__` stands for a slash."""
    root = folder / f"v{len(list(folder.iterdir()))}" / "own"
    for name, text in {"__init__": "", **files}.items():
        path = root / (name.replace("__", "/") + ".py" if name != "__init__" else "__init__.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Sources(module_files({"own": root})).code("own.main:run")


MAIN = "from own.tools import double\nimport own.tools as tools\nSIZE = 3\ndef run(x):\n    return double(x) + SIZE\n"


@pytest.mark.parametrize(
    ("main", "tools", "same"),
    [
        (MAIN, "def double(x: float) -> float:\n    'Doubles.'\n    # twice\n    return 2 * x\n", True),
        (MAIN, "def double(x):\n    return 2 * x\n\ndef other():\n    return 1\n", True),
        (MAIN, "def double(x):\n    return 3 * x\n", False),
        (MAIN, "print('x')\ndef double(x):\n    return 2 * x\n", False),
        (MAIN, "FACTOR: int = 2\ndef double(x):\n    return 2 * x\n", True),
        (MAIN.replace("3", "4"), "def double(x):\n    return 2 * x\n", False),
        (MAIN + "OTHER = 4\n", "def double(x):\n    return 2 * x\n", True),
        (MAIN.replace("double(x)", "tools.double(x)"), "def double(x):\n    return 2 * x\n", False),
    ],
)
def test_code_is_what_is_referred_to(tmp_path: Path, main: str, tools: str, same: bool) -> None:
    base = made_up(tmp_path, main=MAIN, tools="def double(x):\n    return 2 * x\n")
    assert (made_up(tmp_path, main=main, tools=tools) == base) == same


@pytest.mark.parametrize(
    "main",
    [
        "from own.tools import VALUE\ndef run():\n    return VALUE",
        "from own import tools\ndef run():\n    return tools.VALUE",
        "from own import tools as t\ndef run():\n    return getattr(t, 'VAL' + 'UE')",
        "import own.tools as t\ndef run():\n    return t.VALUE",
        "def run():\n    from own.tools import VALUE\n    return VALUE",
        "def run():\n    import own.tools\n    return own.tools.VALUE",
        "from own.between import VALUE\ndef run():\n    return VALUE",
        "CHILD = 'from own.tools import VALUE; print(VALUE)'\ndef run():\n    return CHILD",
        "def run():\n    return ['-m', 'own.tools']",
        "from own.tools import VALUE\nclass Box:\n    value: int = VALUE\ndef run():\n    return Box()",
        "import own.runs\ndef run():\n    return 1",
        "try:\n    from own.tools import VALUE\nexcept ImportError:\n    VALUE = 0\ndef run():\n    return VALUE",
        "from own.tools import VALUE\ntable = {}\ntable['x'] = VALUE\ndef run():\n    return table",
        "from own.tools import VALUE\ndef outer(f):\n    return f\n@outer(VALUE)\ndef run():\n    return 1",
        "from own.tools import VALUE\nA, (B, C) = 1, (2, VALUE)\ndef run():\n    return C",
    ],
)
def test_a_value_is_found_by_every_way_to_it(tmp_path: Path, main: str) -> None:
    others = {"between": "from own.tools import VALUE as VALUE", "runs": "from own.tools import VALUE\nprint(VALUE)"}
    one, two = (made_up(tmp_path, main=main, tools=f"VALUE = {value}\n", **others) for value in (1, 2))
    assert one != two


def test_files_beside_a_module_count_where_they_are_named(tmp_path: Path) -> None:
    def with_file(name: str, content: str, main: str) -> Code:
        root = tmp_path / f"v{len(list(tmp_path.iterdir()))}" / "own"
        (root / "pages").mkdir(parents=True)
        (root / "__init__.py").touch()
        (root / "main.py").write_text(main)
        (root / "pages" / name).write_text(content)
        return Sources(module_files({"own": root})).code("own.main:run")

    reading, other = "def run():\n    return open('pages')", "def run():\n    return open('books')"
    assert with_file("a.html", "x", reading) != with_file("a.html", "y", reading)
    assert with_file("a.html", "x", reading) != with_file("b.html", "x", reading)
    assert with_file("a.html", "x", other) == with_file("a.html", "y", other)
    assert with_file("a.safetensors", "x", reading) == with_file("a.safetensors", "y", reading)


def test_other_packages_count_by_their_versions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(code, "user_cache_path", lambda name: tmp_path)

    def key(function: str, **versions: str) -> Any:
        monkeypatch.setattr(code, "package_versions", lambda: {"numpy": "1", "torch": "1", "usd-core": "1", **versions})
        return code_key(function)

    assert key("stages.compose:compose") != key("stages.compose:compose", numpy="2")
    assert key("stages.compose:compose") == key("stages.compose:compose", **{"usd-core": "2"})
    assert key("stages.export:export") != key("stages.export:export", **{"usd-core": "2"})


# What is remembered ---------------------------------------------------------------------------------------------------


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Functions whose code is looked for, as new processes would, with a cache of their own."""
    found: list[str] = []

    def counted(self: Sources, function: str, *others: str, whole: object = ()) -> Code:
        found.append(function)
        return Code("digest", ("numpy",))

    monkeypatch.setattr(code, "user_cache_path", lambda name: tmp_path / "cache")
    monkeypatch.setattr(Sources, "code", counted)
    return found


def afresh(function: str) -> Code | None:
    for remembered in (code._code_once, code._state):
        remembered.cache_clear()
    return code._code((function,))


def test_code_is_looked_for_once_until_a_file_changes(
    searched: list[str], monkeypatch: pytest.MonkeyPatch, copies: dict[str, Path]
) -> None:
    for package in (scenegen, stages):
        monkeypatch.setattr(package, "__path__", [str(copies[package.__name__])])
    for function in ("stages.read:read", "stages.depth:depth", "stages.read:read"):
        assert afresh(function) == Code("digest", ("numpy",))
    assert searched == ["stages.read:read", "stages.depth:depth"]
    (copies["stages"] / "slot.py").touch()
    afresh("stages.read:read")
    assert len(searched) == 3
    (cache,) = (code.user_cache_path("scenegen") / "code").iterdir()
    cache.write_text("{")
    afresh("stages.read:read")
    assert len(searched) == 4


def test_the_code_of_somebody_elses_stage_is_looked_for_once_until_it_changes(
    searched: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    theirs = ModuleType("theirs")
    theirs.__file__ = str(tmp_path / "theirs.py")
    Path(theirs.__file__).write_text("def run():\n    return 1\n")
    monkeypatch.setitem(sys.modules, "theirs", theirs)
    for function in ("theirs:run", "stages.read:read", "theirs:run"):
        assert afresh(function) == Code("digest", ("numpy",))
    assert len(searched) == 2
    Path(theirs.__file__).write_text("def run():\n    return 23\n")
    afresh("theirs:run")
    assert len(searched) == 3


def test_without_sources_the_version_counts_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for package in (scenegen, stages):
        monkeypatch.setattr(package, "__path__", [str(tmp_path / "app.zip" / package.__name__)])
    code._code_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert code_key("stages.read:read") == {"version": scenegen.__version__}
        code_key("stages.read:read")
    assert caplog.text.count("sources are not installed") == 1
    code._code_once.cache_clear()
