"""The rooms of the package: imports run one way, heavy packages stay in theirs, and all of it is installed."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
FOLDERS = {"neurosim": TOP / "neurosim", "neurosim.rules": TOP / "rules", "neurosim.tasks": TOP / "tasks"}

# A module may import from its own line and those above it. A name stands for a module or for a package with all in it;
# the longest one that fits counts. A new module has to be put here: that is the moment to ask whether it belongs.
ORDER = [
    ["types", "vocabulary"],
    ["random", "durable", "interval"],
    ["surrogate", "factor", "stage"],
    ["neuron", "lateral", "modulator", "transform", "constraint", "connectivity", "release"],
    ["rule"],
    ["network"],
    ["wiring", "reservoir", "scheme", "phase", "recorder", "adapter", "task", "sequence"],
    ["backends.elementary"],
    ["backends.resolve", "backends.needs", "backends.plan", "backends.words_numba", "backends.words_triton"],
    ["backends.specialise"],
    ["backends.symbolic"],
    ["backends.derivative", "backends.whole"],
    ["backends"],
    ["learner", "storage", "checkpoint", "inspect", "interop", "figure", "recorded"],
    ["memory"],
    ["run_folder", "run_figures", "progress", "stopper"],
    ["experiment"],
    ["benchmark"],
    ["run_loop"],
    ["cli", "__main__"],
]
LEVELS = {name: level for level, names in enumerate(ORDER) for name in names}

# Third-party packages and the only modules of neurosim that may name them.
ROOMS = {
    "h5py": ["storage"],
    "hydra": ["cli", "__main__"],
    "omegaconf": ["cli", "__main__"],
    "matplotlib": ["figure"],
    "numba": ["backends"],
    "triton": ["backends"],
    "brian2": ["interop"],
    "norse": ["interop"],
    "snntorch": ["interop"],
    "nir": ["interop"],
}

# Where an import inside a function is wanted: attributes of the package that load on demand, backends and words of a
# machine that load by name, bridges to other simulators.
LAZY = ["__init__", "backends.__init__", "backends.specialise", "interop"]


@dataclass(frozen=True)
class Import:
    """`importer` and `imported` are full names; `typing` marks `if TYPE_CHECKING:`, `inner` a function's body."""

    importer: str
    imported: str
    inner: bool
    typing: bool
    relative: bool
    line: int


def modules() -> dict[str, Path]:
    """Source files by their name in the import package; a package is called "...__init__"."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            found[".".join((package, *path.relative_to(folder).with_suffix("").parts))] = path
    return found


MODULES = modules()


def imports_of(name: str, source: str) -> Iterator[Import]:
    for node, inner, typing in _walk(ast.parse(source), False, False):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name, alias.name, inner, typing, False, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = name.split(".")[: -node.level]
                base = ".".join((*parent, base)).rstrip(".")
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                known = whole in MODULES or f"{whole}.__init__" in MODULES
                yield Import(name, whole if known else base, inner, typing, bool(node.level), node.lineno)


def _walk(node: ast.AST, inner: bool, typing: bool) -> Iterator[tuple[ast.AST, bool, bool]]:
    for child in ast.iter_child_nodes(node):
        function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        checking = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        yield child, inner, typing
        yield from _walk(child, inner or function, typing or checking)


IMPORTS = [item for name, path in MODULES.items() for item in imports_of(name, path.read_text(encoding="utf-8"))]
CORE = [item for item in IMPORTS if not item.importer.startswith(("neurosim.rules.", "neurosim.tasks."))]


def inside(name: str, rooms: list[str]) -> bool:
    """Whether a module of neurosim is one of `rooms`, lies in one, or is a room of the command line (`cli_*`)."""
    short = name.removeprefix("neurosim.")
    return any(short == room or short.startswith((f"{room}.", f"{room}_")) for room in rooms)


def level(name: str) -> int | None:
    """Place in ORDER by the longest fitting name; the package itself is below everything."""
    short = name.removeprefix("neurosim").removeprefix(".").removesuffix("__init__").rstrip(".")
    if not short:
        return -1
    fits = [room for room in LEVELS if inside(f"neurosim.{short}", [room])]
    return LEVELS[max(fits, key=len)] if fits else None


def test_there_is_something_to_test():
    assert len(MODULES) > 20
    assert len(CORE) > 100


def test_every_module_has_its_place():
    lost = [name for name in MODULES if name in {item.importer for item in CORE} and level(name) is None]
    assert not lost, f"put {', '.join(lost)} into ORDER"


def upward(items: list[Import]) -> list[str]:
    """Imports that go against ORDER, as sentences."""
    wrong = []
    for item in items:
        if not item.imported.startswith("neurosim") or inside(item.importer, ["__init__"]):
            continue
        own, other = level(item.importer), level(item.imported)
        lazy = item.inner and inside(item.importer, LAZY)
        if not lazy and own is not None and (other is None or other > own):
            wrong.append(f"{item.importer} imports {item.imported} (line {item.line})")
    return wrong


def test_imports_run_one_way():
    assert upward(CORE) == []


def test_no_cycles():
    graph: dict[str, set[str]] = {}
    for item in CORE:
        if not item.inner and not item.typing:
            target = item.imported if item.imported in MODULES else f"{item.imported}.__init__"
            graph.setdefault(item.importer, set()).add(target)
    assert list(TopologicalSorter(graph).static_order())


def test_the_core_imports_neither_rules_nor_tasks():
    outside = ("neurosim.rules", "neurosim.tasks", "neurosim.configs")
    assert [item for item in CORE if item.imported.startswith(outside)] == []


def test_rules_and_tasks_import_siblings_relatively():
    theirs = [item for item in IMPORTS if item not in CORE]
    wrong = [item for item in theirs if item.imported.startswith(("neurosim.rules", "neurosim.tasks")) != item.relative]
    assert wrong == []


def test_no_import_inside_a_function():
    wrong = [item for item in IMPORTS if item.inner and not inside(item.importer, LAZY)]
    assert wrong == []


@pytest.mark.parametrize("package", sorted(ROOMS))
def test_a_package_stays_in_its_room(package):
    users = {item.importer for item in CORE if item.imported.split(".")[0] == package}
    assert [name for name in users if not inside(name, ROOMS[package])] == []


def test_the_checks_see_what_is_wrong():
    """A made-up module with one sin of each kind."""
    source = "from neurosim.cli import main\ndef f():\n    import h5py\n    from .rule import Rule\n"
    found = list(imports_of("neurosim.types", source))
    assert upward(found) == [
        "neurosim.types imports neurosim.cli (line 1)",
        "neurosim.types imports neurosim.rule (line 4)",
    ]
    assert [item.inner for item in found] == [False, True, True]
    assert [item.relative for item in found] == [False, False, True]
    assert level("neurosim.no_such_room") is None
    assert level("neurosim.cli_errors") == level("neurosim.cli")


def test_import_neurosim_is_light():
    heavy = ["numba", "triton", "brian2", "norse", "snntorch", "hydra", "matplotlib", "h5py", "sklearn"]
    ask = f"import sys, neurosim; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", ask], cwd="/", check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def project() -> dict:
    return tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def package_folders() -> dict[str, Path]:
    """Folders by package name, with the mapping of pyproject.toml."""
    found = {}
    for package, folder in project()["package-dir"].items():
        for path in (TOP / folder).rglob("__init__.py"):
            found[".".join((package, *path.parent.relative_to(TOP / folder).parts))] = path.parent
    return found


def test_every_package_is_installed():
    assert sorted(project()["packages"]) == sorted(package_folders())


def test_every_data_file_is_installed():
    lost = set()
    for package, name in project()["package-dir"].items():
        folder = TOP / name
        files = {path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
        patterns = project()["package-data"].get(package, [])
        taken = {path for pattern in patterns for path in folder.glob(pattern)}
        lost |= {path for path in files - taken if path.suffix != ".py"}
    assert lost == set()


def test_all_four_are_importable_from_anywhere():
    ask = "import neurosim.rules, neurosim.tasks, neurosim.configs, neurosim; print(neurosim.__version__)"
    done = subprocess.run([sys.executable, "-c", ask], cwd="/", check=True, capture_output=True, text=True)
    assert done.stdout.strip()
