"""The digest of the code that makes a stage's result.

It is found without importing anything: from the functions of the stage and its back-ends on, every name is followed through
the modules of the project, to functions, classes and constants, into the programs that child processes are given and to the
files that lie beside a module. What is not referred to does not count; nor do comments, docstrings and the annotations of
functions. Statements that a module runs when it is imported count wherever anything of it does. Of a package that a back-end
comes from all modules count, of other packages the versions.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from importlib.metadata import packages_distributions, version
from pathlib import Path

from platformdirs import user_cache_path

import scenegen
import stages
from scenegen.export.manifest import PACKAGES, package_versions

logger = logging.getLogger(__name__)

OWN = (scenegen.__name__, stages.__name__)
"""The packages whose functions are followed one by one."""
ALWAYS = ("scenegen.compute.threads:one_blas_thread",)
"""Code that runs around every stage and also affects results."""
UNCOUNTED = (".py", ".pyc", ".safetensors", ".sha256")
"""Files next to a module that are not its data: weights are in the key by their own digests."""
PATIENCE = 5
MODULE_NAME = re.compile(r"\b\w+(?:\.\w+)+")
FILE_NAME = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True)
class Code:
    """The code on which a stage's result depends."""

    digest: str
    """sha256 (hex)."""
    packages: tuple[str, ...]
    """Top-level names of the other packages it imports, sorted."""


def code_key(*functions: str) -> dict[str, object]:
    """The part of a stage's key for its code and the packages that it uses.

    Args:
        functions: that make the result, each as `module:qualified.name`. Of one that is another package's, all of that
            package counts, and the versions of all that it imports.
    """
    code = _code(functions)
    if code is None:
        return {"version": scenegen.__version__}
    versions = package_versions()
    used = {name: versions[name] for name, module in PACKAGES.items() if module in code.packages and name in versions}
    if any(_package(function) not in OWN for function in functions):
        used |= _versions_of(frozenset(code.packages) - {*PACKAGES.values(), *OWN})
    return {"digest": code.digest, "packages": used}


def _package(function: str) -> str:
    return function.partition(":")[0].partition(".")[0]


@functools.cache
def _versions_of(modules: frozenset[str]) -> Mapping[str, str]:
    """Versions of the distributions that bring some modules."""
    bringing = packages_distributions()
    return {name: version(name) for module in sorted(modules) for name in bringing.get(module, ())}


def _code(functions: tuple[str, ...]) -> Code | None:
    """None, logged once, if there are no sources to read."""
    with _looking:
        return _code_once(functions)


_looking = threading.Lock()
"""Syntax trees are changed while they are searched."""


@functools.cache
def _code_once(functions: tuple[str, ...]) -> Code | None:
    places = {package.__name__: Path(package.__path__[0]) for package in (scenegen, stages)}
    for function in functions:
        package = _package(function)
        if package not in places:
            places[package] = _place(package)
    lacking = [name for name, place in places.items() if not (place.is_file() or (place / "__init__.py").is_file())]
    if not lacking:
        return _remembered(functions, places)
    logger.warning(
        "%s: its sources are not installed, so stored results depend on scenegen's version, %s, only.",
        " and ".join(lacking),
        scenegen.__version__,
    )
    return None


def _place(package: str) -> Path:
    """The folder of an imported package, or the file of a module that is none."""
    found = sys.modules[package]
    return Path([*getattr(found, "__path__", ()), getattr(found, "__file__", None) or package][0])


def _remembered(functions: tuple[str, ...], places: Mapping[str, Path]) -> Code:
    """The code of some functions, from the user's cache where no file of the packages has changed since: to parse them takes
    a second."""
    state = _state(tuple(places.values()))
    asked = " ".join(functions)
    name = hashlib.sha256(json.dumps([str(place) for place in places.values()] + [sys.version]).encode()).hexdigest()
    path = user_cache_path("scenegen") / "code" / f"{name[:32]}.json"
    known: dict[str, list[object]] = {}
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        known = dict(stored["code"]) if stored["state"] == state else {}
        digest, packages = known[asked]
        return Code(str(digest), tuple(packages))  # type: ignore[arg-type]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        own = [function for function in functions if _package(function) in OWN]
        code = _sources(tuple(places.items())).code(*own, *ALWAYS, whole={*places}.difference(OWN))
    part = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"state": state, "code": {**known, asked: [code.digest, code.packages]}})
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        logger.debug("could not remember the digest of the code: %s", error)
    return code


@functools.cache
def _state(places: tuple[Path, ...]) -> str:
    """What changes whenever a file of the packages does."""
    found = []
    for place in places:
        for parent, _, names in os.walk(place) if place.is_dir() else [(place.parent, [], [place.name])]:
            for name in names:
                if name.endswith(".pyc"):
                    continue
                with contextlib.suppress(FileNotFoundError):  # a temporary file that is gone again
                    status = os.stat(f"{parent}/{name}")  # noqa: PTH116 (at every start: must be quick)
                    found.append(
                        (str(parent), name, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
                    )
    return hashlib.sha256(json.dumps(sorted(found)).encode()).hexdigest()


@functools.cache
def _sources(places: tuple[tuple[str, Path], ...]) -> Sources:
    return Sources(module_files(dict(places)))


def module_files(places: Mapping[str, Path]) -> dict[str, Path]:
    """The file of every module of the packages that lie in `places`: each a folder, or the one file of a module."""
    files = {}
    for package, place in places.items():
        if place.is_file():
            files[package] = place
            continue
        for path in place.rglob("*.py"):
            parts = path.relative_to(place).with_suffix("").parts
            files[".".join((package, *(parts[:-1] if parts[-1] == "__init__" else parts)))] = path
    return files


class Sources:
    """The modules to follow names into, each parsed when it is first reached.

    Args:
        files: by the modules' names.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.files = files
        self._modules: dict[str, Module] = {}

    def module(self, name: str) -> Module:
        """The parsed module."""
        if name not in self._modules:
            self._modules[name] = _parse(name, self.files[name])
        return self._modules[name]

    def code(self, *functions: str, whole: Collection[str] = ()) -> Code:
        """The code that functions (`module:qualified.name`) refer to, and that of `whole` packages."""
        search = _Search(self)
        for function in functions:
            module, _, name = function.partition(":")
            search.follow(module, name.partition(".")[0])
        for module in sorted(self.files):
            if _package(module) in whole:
                search.follow(module, None)
        digest = hashlib.sha256(json.dumps(sorted(search.parts)).encode()).hexdigest()
        return Code(digest, tuple(sorted(search.others)))


@dataclass
class Module:
    """A parsed module of the project."""

    name: str
    folder: Path
    defined: dict[str, list[Statement]] = field(default_factory=dict)
    """By name: the statements at the module's top that bind it."""
    imported: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    """By name: module and name in it, None if it is the module itself."""
    executed: list[Statement] = field(default_factory=list)
    """Statements at the top that do more than to bind names."""


class Statement:
    """A statement at the top of a module, without what does not count."""

    def __init__(self, node: ast.stmt) -> None:
        self.node = node

    @functools.cached_property
    def text(self) -> str:
        """Its syntax tree."""
        return ast.dump(self._bare)

    @functools.cached_property
    def nodes(self) -> list[ast.AST]:
        """Everything in it that can refer to something else."""
        kinds = (ast.Name, ast.Attribute, ast.Import, ast.ImportFrom, ast.Constant)
        return [node for node in ast.walk(self._bare) if isinstance(node, kinds)]

    @functools.cached_property
    def _bare(self) -> ast.stmt:
        return _Bare().visit(self.node)


class _Search:
    """Everything that has been reached from some function."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._begun: set[str] = set()
        self._followed: set[tuple[str, str]] = set()
        self._taken: set[Statement] = set()
        self.parts: set[tuple[str, str]] = set()
        """Module and statement, or file and digest."""
        self.others: set[str] = set()

    def follow(self, module: str, name: str | None) -> None:
        """Takes what `name` means in a module; all of the module for None."""
        if name is not None and f"{module}.{name}" in self._sources.files:
            module, name = f"{module}.{name}", None
        if module not in self._sources.files:
            self.others.add(module.partition(".")[0])
            return
        self._begin(module)
        known = self._sources.module(module)
        for each in known.defined if name is None else (name,):
            if (module, each) not in self._followed:
                self._followed.add((module, each))
                for statement in known.defined.get(each, ()):
                    self._take(known, statement)
                if each in known.imported:
                    self.follow(*known.imported[each])

    def _begin(self, module: str) -> None:
        """Takes what the module, its packages and all they import run when they are imported."""
        if module in self._begun or module not in self._sources.files:
            return
        self._begun.add(module)
        self._begin(module.rpartition(".")[0])
        known = self._sources.module(module)
        for target, name in known.imported.values():
            self._begin(target)
            self._begin(f"{target}.{name}")
        for statement in known.executed:
            self._take(known, statement)

    def _take(self, module: Module, statement: Statement) -> None:
        if statement in self._taken:
            return
        self._taken.add(statement)
        self.parts.add((module.name, statement.text))
        of_modules: set[ast.AST] = set()
        for node in statement.nodes:  # an attribute comes before what it is of
            if isinstance(node, ast.Attribute):
                target = self._as_module(module, node.value)
                if target is not None:
                    of_modules.add(node.value)
                    self.follow(target, node.attr)
            elif isinstance(node, ast.Name):
                if node not in of_modules:
                    self.follow(module.name, node.id)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                for target, name in _imports(node).values():
                    self.follow(target, name)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                self._take_text(module, node.value)

    def _as_module(self, module: Module, node: ast.expr) -> str | None:
        """The module of the project that an expression stands for, if it does."""
        if not isinstance(node, ast.Name) or node.id not in module.imported:
            return None
        target, name = module.imported[node.id]
        whole = target if name is None else f"{target}.{name}"
        return whole if whole in self._sources.files else None

    def _take_text(self, module: Module, text: str) -> None:
        """A string may name a module that a child process runs, or a file beside this one."""
        for found in MODULE_NAME.findall(text):
            if found in self._sources.files:
                self.follow(found, None)
        if FILE_NAME.fullmatch(text):
            path = module.folder / text
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.suffix not in UNCOUNTED and file.is_file():
                    digest = hashlib.sha256(file.read_bytes()).hexdigest()
                    self.parts.add((f"{module.name}/{file.relative_to(module.folder).as_posix()}", digest))


def _parse(name: str, path: Path) -> Module:
    module = Module(name, path.parent)
    for node in _tree(path).body:
        statement = Statement(node)
        if isinstance(node, ast.Import | ast.ImportFrom):
            module.imported.update(_imports(node))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            module.defined.setdefault(node.name, []).append(statement)
        elif (names := _bound(node)) is not None:
            for bound in names:
                module.defined.setdefault(bound, []).append(statement)
        elif not _is_text(node) and not _is_for_typing(node):
            module.executed.append(statement)
            for inner in ast.walk(node):
                if isinstance(inner, ast.Import | ast.ImportFrom):
                    module.imported.update(_imports(inner))
    return module


def _tree(path: Path) -> ast.Module:
    content = path.read_bytes()
    for _ in range(PATIENCE):
        # Python 3.11 fails if another thread, perhaps in an import, parses at the same time.
        with contextlib.suppress(SystemError):
            return ast.parse(content)
    return ast.parse(content)


def _imports(node: ast.Import | ast.ImportFrom) -> dict[str, tuple[str, str | None]]:
    """By the name that is bound: the module and the name in it. The project has no relative imports."""
    if isinstance(node, ast.Import):
        return {alias.asname or alias.name: (alias.name, None) for alias in node.names}
    return {alias.asname or alias.name: (node.module or "", alias.name) for alias in node.names}


def _bound(node: ast.stmt) -> list[str] | None:
    """The names that an assignment binds, None for one that does more and for all other statements."""
    if not isinstance(node, ast.Assign | ast.AnnAssign):
        return None
    if node.value is None:
        return []
    parts = [part for target in (getattr(node, "targets", None) or [node.target]) for part in ast.walk(target)]  # type: ignore[union-attr]
    plain = all(isinstance(part, ast.Name | ast.Tuple | ast.expr_context) for part in parts)
    return [part.id for part in parts if isinstance(part, ast.Name)] if plain else None


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_for_typing(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


class _Bare(ast.NodeTransformer):
    """Removes docstrings, and annotations that nothing reads: those of classes make fields."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        self.generic_visit(node)
        return None if _is_text(node) else node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return ast.arg(node.arg)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.returns = None
        self.generic_visit(node)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        body = [item if isinstance(item, ast.AnnAssign) else self.visit(item) for item in node.body]
        node.body = [item for item in body if item is not None]
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.Assign | None:
        self.generic_visit(node)
        return None if node.value is None else ast.Assign([node.target], node.value)
