"""The shape of the source: who may import whom, how large things may be, where the equation stands.

Read from the syntax trees, so imports inside functions count as well.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("mmd", "games", "llm_bridge")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# From the ground up; a module imports lower layers only. All algorithms are one layer: an algorithm is one new file.
LAYERS = (
    {"interruption", "doors"},
    {"command_line"},
    {"simplex", "blocks", "payoff", "files", "environment", "progress", "options", "notebook"},
    {"update", "folder_lock", "figure"},
    {"treeplex"},
    {"game"},
    {"policy", "certificate", "sequence_form", "sharding", "padded"},
    {"vertex", "solution"},
    {"algorithm"},
    {"policy_files", "theory", "metrics", "magnets", "feedback", "exact", "polish", "crossover"},
    {"algorithms", "equilibria", "stopping"},
    {"laboratory"},
    {"checkpoint", "chunk", "programs", "units"},
    {"host_run"},
    {"solver", "run_directory", "tables"},
    {"plot", "batch"},
    {"lab_plot", "lab_directory"},
    {"lab_command"},
    {"commands"},
    {"cli"},
    {"__main__"},
)
BRIDGE_LAYERS = (
    {"architecture"},
    {"ranges"},
    {"rotary", "attention", "weights"},
    {"config", "names", "tensor_files"},
    {"sharding", "models", "compute", "tokenizer", "cpu_steps"},
    {"decoder"},
    {"scoring", "sampling"},
    {"generate"},
    {"policy"},
    {"checkpoint"},
    {"export", "data", "intervals"},
    {"adapters", "encoding"},
    {"judges"},
    {"train_state", "arena", "agreement", "termination", "lottery"},
    {"objective", "mixture", "weight_average", "rollout", "processes"},
    {"learning"},
    {"loop"},
    {"mpo"},
    {"baselines"},
    {"run_state", "trackers", "win_rate", "memory", "evaluation", "options"},
    {"training_log", "drawing"},
    {"config_file", "judge_choice", "method_choice", "training_run"},
    {"train_commands"},
    {"commands"},
    {"cli"},
    {"__main__"},
)
RANK = {module: rank for rank, layer in enumerate(LAYERS) for module in layer}
BRIDGE_RANK = {module: rank for rank, layer in enumerate(BRIDGE_LAYERS) for module in layer}
ONLY_IN = {
    "scipy": {"mmd.equilibria", "mmd.exact", "mmd.polish", "mmd.sequence_form"},
    "matplotlib": {"mmd.figure", "mmd.lab_plot", "mmd.plot", "mmd.solution"},  # the last two for types alone
    "tyro": {"mmd.command_line", "mmd.options", "llm_bridge.options"},
    "rich": {"mmd.progress", "llm_bridge.training_log"},
    "games": {"mmd.commands"},
}
FOLDERS = {"models", "judges", "baselines"}  # one file each, which may share some
# What the bridge may know: the public surface, the equation, and how a command of this project behaves.
FROM_MMD = {"mmd", "mmd.update", "mmd.command_line", "mmd.doors", "mmd.environment", "mmd.files", "mmd.folder_lock"}
NOT_IN_THE_CORE = {"flax", "optax", "orbax", "safetensors", "tokenizers", "transformers", "torch"}

MAX_FUNCTION_LINES, MAX_PARAMETERS = 40, 6
# Limits and settings are the surface of solve and generate; advance is traced, so each of its numbers is an argument.
MANY_PARAMETERS = {"mmd.solver.solve", "mmd.chunk.advance", "llm_bridge.policy.generate"}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, `from package import module` resolved to the module."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{path}: relative import"
            for alias in node.names:
                inner = ROOT / node.module.replace(".", "/") / alias.name
                is_module = inner.with_suffix(".py").exists() or inner.is_dir()
                yield f"{node.module}.{alias.name}" if is_module else node.module


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef):
            yield f"{name_of(path)}.{node.name}", node


def rank(module: str) -> int:
    assert module != "mmd", "import the module, not the package's public surface"
    return RANK[module.split(".")[1]]


@pytest.mark.parametrize("path", [p for p in SOURCES if name_of(p).startswith("mmd.")], ids=name_of)
def test_mmd_imports_point_downwards(path: Path) -> None:
    importer = name_of(path)
    inner = [module for module in imports(path) if module.split(".")[0] == "mmd"]
    same_package = [m for m in inner if m.startswith("mmd.algorithms") and importer.startswith("mmd.algorithms")]
    upwards = [m for m in inner if m not in same_package and rank(m) >= rank(importer)]
    assert not upwards, f"{importer} imports {upwards}"


@pytest.mark.parametrize("path", [p for p in SOURCES if name_of(p).startswith("llm_bridge.")], ids=name_of)
def test_bridge_imports_point_downwards(path: Path) -> None:
    importer = name_of(path)
    for module in imports(path):
        package, _, inner = module.partition(".")
        assert package != "games", f"{importer} imports {module}"
        assert package != "mmd" or module in FROM_MMD, f"{importer} imports {module}"
        if package != "llm_bridge":
            continue
        assert inner, f"{importer} imports the package's public surface"
        same_folder = inner.split(".")[0] in FOLDERS and importer.startswith(f"llm_bridge.{inner.split('.')[0]}")
        mine, theirs = (BRIDGE_RANK[name.split(".")[1]] for name in (importer, module))
        assert same_folder or theirs < mine, f"{importer} imports {module}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_each_library_has_its_place(path: Path) -> None:
    importer = name_of(path)
    for module in imports(path):
        library = module.split(".")[0]
        assert library not in NOT_IN_THE_CORE or importer.startswith("llm_bridge"), f"{importer} imports {module}"
        assert library != "torch", f"{importer} imports {module}"
        if library in ONLY_IN and importer.split(".")[0] != library:
            assert importer in ONLY_IN[library], f"{importer} imports {module}"


@pytest.mark.parametrize("path", sorted((ROOT / "games").glob("*.py")), ids=name_of)
def test_games_know_no_algorithm(path: Path) -> None:
    inner = {module for module in imports(path) if module.split(".")[0] in ("mmd", "llm_bridge")}
    assert inner <= {"mmd.doors", "mmd.game", "mmd.payoff", "mmd.treeplex"}


def test_the_certificate_shares_no_code_with_the_solvers() -> None:
    found = set(imports(ROOT / "mmd" / "certificate.py"))
    assert {m for m in found if m.startswith("mmd")} <= {"mmd.game", "mmd.payoff", "mmd.treeplex"}
    assert not {m for m in found if m.split(".")[0] == "jax"}


def test_ground_truth_is_never_used_by_a_solver() -> None:
    solvers = [ROOT / "mmd" / "solver.py", *(ROOT / "mmd" / "algorithms").glob("*.py")]
    assert not [path for path in solvers if "mmd.exact" in set(imports(path))]


def test_the_public_surface_leaves_the_command_out() -> None:
    roof = {f"mmd.{module}" for module in ("cli", "commands", "options", "__main__")}
    assert not roof & set(imports(ROOT / "mmd" / "__init__.py"))


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
    found = {
        name_of(path)
        for path in SOURCES
        if any(is_one_plus_eta_alpha(node) for node in ast.walk(ast.parse(path.read_text("utf-8"))))
    }
    assert found == {"mmd.update", "mmd.theory"}


def test_only_the_treeplex_sweeps_trees() -> None:
    """Levels are what a sweep loops over; the certificate has its own sweep so as not to trust this one."""
    sweepers = {
        name_of(path)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("levels", "blocks")
    }
    assert sweepers <= {"mmd.treeplex", "mmd.certificate"}
