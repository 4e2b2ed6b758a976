"""The shape of the source: who may import whom, how large things may be, where the equation stands.

Rooms are folders, or modules at the top of a package; a new file in a folder changes nothing here. Read from the syntax
trees, so imports inside functions count as well.
"""

import ast
import graphlib
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("mmd", "games", "llm_bridge")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# From the ground up. A module imports its own room and rooms of lower layers; only `__main__` starts the command.
LAYERS = {
    "mmd": (
        {"host", "simplex"},
        {"update", "report"},
        {"game"},
        {"measure", "magnets", "feedback"},
        {"algorithms"},
        {"solving", "lab"},
        {"command"},
    ),
    "llm_bridge": (
        {"model"},
        {"text"},
        {"policy"},
        {"checkpoint"},
        {"judges"},
        {"train", "run"},
        {"measure", "plan"},
        {"command"},
    ),
}
RANK = {f"{half}.{room}": n for half, layers in LAYERS.items() for n, layer in enumerate(layers) for room in layer}
MOST_ENTRIES = {"mmd": 14, "llm_bridge": 12}
# What a library's name, or a package's, may be imported by.
ONLY_IN = {
    "scipy": {"mmd.measure", "mmd.algorithms", "mmd.solving"},
    "matplotlib": {"mmd.host", "mmd.measure", "mmd.lab", "llm_bridge.train", "llm_bridge.measure"},
    "tyro": {"mmd.host"},
    "rich": {"mmd.host", "llm_bridge.run"},
    "games": {"mmd.command"},
}
# What the bridge may know: the public surface, the equation, and how a command of this project behaves and reports.
FROM_MMD = {"mmd", "mmd.update", "mmd.host", "mmd.report"}
NOT_IN_THE_CORE = {"flax", "optax", "orbax", "safetensors", "tokenizers", "transformers", "torch"}

MAX_FUNCTION_LINES, MAX_PARAMETERS = 40, 6
# Limits and settings are the surface of solve, generate, exploit, a recording and a figure, and wrap says all that a
# module does not say of itself; advance is traced, so each of its numbers is an argument.
MANY_PARAMETERS = {
    "mmd.solving.solver.solve",
    "mmd.solving.chunk.advance",
    "mmd.lab.recording.record",
    "mmd.measure.plot.plot_convergence",
    "llm_bridge.policy.policy.generate",
    "llm_bridge.policy.wrapping.wrap",
    "llm_bridge.measure.exploit.exploit",
}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text("utf-8"))))


@cache
def imports(path: Path) -> list[str]:
    """Every module that a file imports, `from package import module` resolved to the module."""
    return list(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{path}: relative import"
            for alias in node.names:
                inner = ROOT / node.module.replace(".", "/") / alias.name
                is_module = inner.with_suffix(".py").exists() or inner.is_dir()
                yield f"{node.module}.{alias.name}" if is_module else node.module


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef):
            yield f"{name_of(path)}.{node.name}", node


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def lies_in(module: str, places: set[str]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


def within(half: str) -> list[Path]:
    return [path for path in SOURCES if name_of(path).startswith(f"{half}.") and path.name != "__main__.py"]


@pytest.mark.parametrize("path", [path for half in LAYERS for path in within(half)], ids=name_of)
def test_imports_point_downwards(path: Path) -> None:
    importer = name_of(path)
    half, mine = importer.split(".")[0], room_of(importer)
    for module in imports(path):
        if module.split(".")[0] == half:
            assert module != half, f"{importer} imports the package's public surface: import the module"
            theirs = room_of(module)
            assert theirs == mine or RANK[theirs] < RANK[mine], f"{importer} imports {module}"


def test_there_are_few_rooms_and_few_layers() -> None:
    for half, layers in LAYERS.items():
        there = {path.relative_to(ROOT / half).parts[0].removesuffix(".py") for path in (ROOT / half).rglob("*.py")}
        assert there == {"__init__", "__main__"}.union(*layers)
        assert len(there) <= MOST_ENTRIES[half]
        assert len(layers) <= 8


@pytest.mark.parametrize("package", PACKAGES)
def test_no_imports_go_in_a_circle(package: str) -> None:
    paths = [path for path in SOURCES if name_of(path).startswith(f"{package}.")]
    graph = {name_of(path): set(imports(path)) - {name_of(path)} for path in paths}
    graphlib.TopologicalSorter(graph).prepare()  # raises a CycleError that shows the circle


@pytest.mark.parametrize("half", LAYERS)
def test_main_only_starts_the_command(half: str) -> None:
    assert set(imports(ROOT / half / "__main__.py")) == {f"{half}.command.cli"}


@pytest.mark.parametrize("path", within("llm_bridge"), ids=name_of)
def test_what_the_bridge_knows(path: Path) -> None:
    for module in imports(path):
        assert module.split(".")[0] != "games", f"{name_of(path)} imports {module}"
        if module.split(".")[0] == "mmd":
            assert module == "mmd" or lies_in(module, FROM_MMD - {"mmd"}), f"{name_of(path)} imports {module}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_each_library_has_its_place(path: Path) -> None:
    importer = name_of(path)
    for module in imports(path):
        library = module.split(".")[0]
        assert library not in NOT_IN_THE_CORE or importer.startswith("llm_bridge"), f"{importer} imports {module}"
        assert library != "torch", f"{importer} imports {module}"
        if library in ONLY_IN and importer.split(".")[0] != library:
            assert lies_in(importer, ONLY_IN[library]), f"{importer} imports {module}"


@pytest.mark.parametrize("path", sorted((ROOT / "games").rglob("*.py")), ids=name_of)
def test_games_know_no_algorithm(path: Path) -> None:
    found = set(imports(path))
    known = {"mmd.game", "mmd.host"}
    assert not [m for m in found if m.split(".")[0] in ("mmd", "llm_bridge") and not lies_in(m, known)]
    if path.parent == ROOT / "games" and path.name != "__init__.py":
        assert not [module for module in found if lies_in(module, {"games.readers"})]


def test_the_certificate_shares_no_code_with_the_solvers() -> None:
    found = set(imports(ROOT / "mmd" / "measure" / "certificate.py"))
    assert not [module for module in found if module.startswith("mmd") and not lies_in(module, {"mmd.game"})]
    assert not {m for m in found if m.split(".")[0] == "jax"}


def test_ground_truth_is_never_used_by_a_solver() -> None:
    solvers = [path for room in ("algorithms", "solving") for path in (ROOT / "mmd" / room).rglob("*.py")]
    assert len(solvers) > 20
    assert not [path for path in solvers if {"mmd.measure.exact", "mmd.measure.equilibria"} & set(imports(path))]


def test_the_public_surface_leaves_the_command_out() -> None:
    for half in LAYERS:
        assert not [m for m in imports(ROOT / half / "__init__.py") if lies_in(m, {f"{half}.command"})]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_public_name_is_hidden_by_a_module(package: str) -> None:
    """Importing `package.name` sets the attribute `name` of the package to that module."""
    public = importlib.import_module(package)
    modules = {path.name.removesuffix(".py") for path in (ROOT / package).iterdir()}
    for name in modules & set(public.__all__):
        assert isinstance(getattr(public, name), ModuleType), f"{package}.{name} is a module and something else"


@pytest.mark.parametrize("package", [*PACKAGES, "benchmarks"])
def test_every_folder_opens_with_a_paragraph(package: str) -> None:
    for folder in {path.parent for path in (ROOT / package).rglob("*.py")}:
        opening = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8")))
        assert opening, f"{folder} does not say what lives there"
        assert re.search(r"[Rr]ead\s`", opening), f"{folder} does not say which file to read first"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_sizes(path: Path) -> None:
    assert not re.search(r"utils|common|helpers", path.stem)
    for name, function in functions(path):
        body = function.body[1:] if ast.get_docstring(function) else function.body
        lines = (function.end_lineno or 0) - body[0].lineno + 1 if body else 0
        assert lines <= MAX_FUNCTION_LINES, f"{name} has {lines} lines"
        a = function.args
        parameters = [p.arg for p in (*a.posonlyargs, *a.args, *a.kwonlyargs) if p.arg not in ("self", "cls")]
        assert len(parameters) <= MAX_PARAMETERS or name in MANY_PARAMETERS, f"{name} has {len(parameters)} parameters"


def is_one_plus_eta_alpha(node: ast.AST) -> bool:
    """Whether an expression is `1 + eta * alpha`, in any order, of any object's eta and alpha."""
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add)):
        return False
    for one, product in ((node.left, node.right), (node.right, node.left)):
        if isinstance(one, ast.Constant) and one.value == 1 and isinstance(product, ast.BinOp):
            factors = {ast.unparse(side).split(".")[-1] for side in (product.left, product.right)}
            if isinstance(product.op, ast.Mult) and factors == {"eta", "alpha"}:
                return True
    return False


def test_the_equation_has_one_address() -> None:
    found = {name_of(path) for path in SOURCES if any(map(is_one_plus_eta_alpha, nodes(path)))}
    assert found == {"mmd.update", "mmd.measure.theory"}


def test_only_the_treeplex_sweeps_trees() -> None:
    """Levels are what a sweep loops over; the certificate has its own sweep so as not to trust this one."""
    sweepers = {
        name_of(path)
        for path in SOURCES
        for node in nodes(path)
        if isinstance(node, ast.Attribute) and node.attr in ("levels", "blocks")
    }
    assert sweepers <= {"mmd.game.treeplex", "mmd.measure.certificate"}
