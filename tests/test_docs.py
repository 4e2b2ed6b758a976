"""The documentation runs: its Python, its commands, its links; and it knows every public name.

On each page ```python blocks are executed in order in one namespace, ```console blocks by a shell, all in one empty
folder. Output shown below a command, or in an ```output block below Python, must be printed by it, with `...` for any
text.
"""

import ast
import contextlib
import importlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import llm_bridge.command.cli
import mmd.command.cli
from benchmarks.gallery import FIGURES
from docs import catalogue, notebooks, sentences
from mmd.measure import run_directory
from mmd.measure.run_directory import load_result
from tests.processes import QUICK_XLA

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PROGRAMS = {"mmd": mmd.command.cli.main, "mpo": llm_bridge.command.cli.main}
PLAIN = re.compile(r"m(?:md|po) [^*?|&;<>$]*")
IN_FRONT = {"mmd", "mpo", "anchored"}
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TOCTREE = re.compile(r"^```\{toctree\}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
AUTODOC = re.compile(r"^\.\. auto\w+:: ([\w.]+)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
TARGETS = {
    "setup",
    "demo",
    "check",
    "test",
    "lint",
    "bench",
    "peers",
    "bench-peers",
    "parity",
    "docs",
    "notebooks",
    "release-check",
    "clean",
}


class Block(NamedTuple):
    language: str
    text: str
    line: int


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [Block(m[1], m[2], text.count("\n", 0, m.start()) + 2) for m in FENCE.finditer(text)]


def executable(page: Path) -> bool:
    return any(block.language in ("python", "console") for block in blocks(page))


def run_python(page: Path, block: Block, namespace: dict[str, object]) -> str:
    """What the block prints."""
    source = "\n" * (block.line - 1) + block.text  # so that a traceback names the page's own lines
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(source, str(page), "exec"), namespace)
    return printed.getvalue()


def check_shown(shown: str, text: str, of: str) -> None:
    """Every line shown is printed, `...` standing for any text."""
    printed = [" ".join(line.split()) for line in text.splitlines()]
    for line in filter(None, (" ".join(line.split()) for line in shown.splitlines())):
        pattern = re.compile(".*".join(map(re.escape, line.split("..."))))
        assert any(map(pattern.fullmatch, printed)), f"{of}\nexpected {line!r} in\n{text}"


def run_here(command: str) -> tuple[int, str, str]:
    """Status, output and messages of a command of ours, in this process, where what it compiles may be compiled."""
    program, *words = shlex.split(command)
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(io.StringIO()) as said:
        status = PROGRAMS[program](words)
    return status, printed.getvalue(), said.getvalue()


def run_console(block: Block, folder: Path, environment: dict[str, str], *, apart: bool) -> None:
    """Run the lines that start with `$ ` and compare what is shown below them with what they print.

    Commands of ours for which no shell is needed run in this process, unless they are to run `apart`.
    """
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        if command.startswith("make "):
            assert set(command.split()[1:]) <= TARGETS, command
            ran = subprocess.run(["make", "--dry-run", *command.split()[1:]], cwd=ROOT, capture_output=True, text=True)
            done = ran.returncode, ran.stdout, ran.stderr
        elif not apart and PLAIN.fullmatch(command):
            done = run_here(command)
        else:
            ran = subprocess.run(
                command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
            )
            done = ran.returncode, ran.stdout, ran.stderr
        status, printed, said = done
        assert status == 0, f"{command}\n{printed}{said}"
        check_shown(shown, printed, command)


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A shell in which both programs are this checkout's, without the suite's settings, those of the compiler apart."""
    programs = tmp_path_factory.mktemp("bin")
    for name, package in (("mmd", "mmd"), ("mpo", "llm_bridge")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {package} "$@"\n')
        (programs / name).chmod(0o755)
    kept = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    clean = {k: v for k, v in os.environ.items() if k in kept or not k.startswith(("JAX_", "XLA_"))}
    path = f"{programs}{os.pathsep}{clean['PATH']}"
    return clean | {"PATH": path, "PYTHONPATH": str(ROOT), "XLA_FLAGS": QUICK_XLA}


@pytest.mark.parametrize(
    "page", [p for p in PAGES if {b.language for b in blocks(p)} & {"python", "console"}], ids=name_of
)
def test_code_runs(page: Path, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "docs"}
    printed = ""
    for block in blocks(page):
        if block.language == "python":
            printed = run_python(page, block, namespace)
        elif block.language == "output":
            check_shown(block.text, printed, f"{page}:{block.line}")
        elif block.language == "console":
            run_console(block, tmp_path, environment, apart=page == ROOT / "README.md")


def test_sentences_are_short() -> None:
    found = [*sentences.long_ones(), *sentences.long_ones_of_docstrings()]
    assert not [f"{name_of(one.page)}:{one.line}: {one.text}" for one in found]


def test_a_docstring_is_read_as_sentences_wherever_they_stand() -> None:
    """In its first paragraphs and in each entry of its sections, and nowhere in a formula that is set off."""
    long = " ".join(["word"] * 30)
    known = {
        f"{long}.": [30],
        f"A.\n\nB; {long}.": [1, 31],
        f"A.\n\nArgs:\n    x, y: {long}.\n    z: b.\n\nRaises:\n    Error: {long}\n": [1, 30, 1, 30],
        f"A.\n\n    {long}\n\nB.": [1, 1],
    }
    for text, counts in known.items():
        assert [one.words for one in sentences.sentences(ROOT, sentences.prose(text))] == counts


@pytest.mark.parametrize("page", notebooks.PAGES, ids=name_of)
def test_a_notebook_runs_what_its_page_runs(page: Path) -> None:
    """The same Python and the same commands in the same order, and nothing that only the page's tests read."""
    cells = re.findall(r"^```python\n(.*?)^```$", notebooks.text_of(page), re.MULTILINE | re.DOTALL)
    wanted = []
    for block in blocks(page):
        if block.language == "console":
            parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]
            wanted.append("".join(f"!{part.splitlines()[0]}\n" for part in parts))
        elif block.language == "python":
            wanted.append(block.text)
    assert cells == wanted


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and MyST make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCE.sub("", page.read_text("utf-8"))):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), f"{page.name} links to {link}"


def below(page: Path) -> set[Path]:
    """All pages that a page's table of contents leads to, and theirs."""
    found: set[Path] = set()
    for listed in TOCTREE.findall(page.read_text("utf-8")):
        for name in filter(None, listed.splitlines()):
            if not name.startswith(":"):
                children = set(page.parent.glob(f"{name}.md")) - {page}
                assert children, f"{page} lists {name}"
                found |= children
    return found.union(*map(below, found)) if found else found


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    assert below(index) | {index} == set((ROOT / "docs").rglob("*.md"))


def documented() -> dict[str, str]:
    """Public names -> the page of the reference that documents them."""
    pages = (ROOT / "docs" / "reference" / f"{package}.md" for package in ("mmd", "games", "llm_bridge"))
    return {name: page.name for page in pages for name in AUTODOC.findall(page.read_text("utf-8"))}


def test_every_public_name_has_an_entry_in_the_reference() -> None:
    """And every entry is a public name, or a member of a public module."""
    import games
    import llm_bridge
    import mmd

    public = {f"{package.__name__}.{name}" for package in (mmd, games, llm_bridge) for name in package.__all__}
    listed = documented()
    assert public <= set(listed), f"docs/reference lists no {min(public - set(listed))}"
    for name in set(listed) - public:
        assert name.rpartition(".")[0] in public, name
    for package in (mmd, games, llm_bridge):
        for name in package.__all__:
            assert listed[f"{package.__name__}.{name}"] == f"{package.__name__}.md"


def test_every_public_name_has_a_docstring() -> None:
    """Read from the sources: nothing is imported."""
    import llm_bridge
    import mmd

    for package in (mmd, llm_bridge):
        for name, home in package._HOME.items():
            file = ROOT.joinpath(*home.split("."))
            file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
            tree = ast.parse(file.read_text("utf-8"))
            defined = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
            texts = {node.name: ast.get_docstring(node) for node in defined if not _is_overload(node)}
            assert name not in texts or texts[name], f"{home}.{name} has no docstring"


def _is_overload(node: ast.FunctionDef | ast.ClassDef) -> bool:
    return any(isinstance(mark, ast.Name) and mark.id == "overload" for mark in node.decorator_list)


def test_further_modules_of_the_reference_are_there() -> None:
    for page in ("mmd.md", "games.md"):
        further = (ROOT / "docs" / "reference" / page).read_text("utf-8").partition("## Further modules")[2]
        for name in re.findall(r"`((?:mmd|games)(?:\.\w+)+)`", further):
            importlib.import_module(name)


def test_the_catalogue_is_that_of_the_docstrings() -> None:
    page = catalogue.page()
    assert catalogue.PAGE.read_text("utf-8") == page
    for name, text in catalogue.algorithm_docs().items():
        assert f"\n### {name}\n" in page
        assert catalogue.proven(text), f"{name} does not say what is proven of it"


def test_one_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    newest = re.search(r"^## \[?([\d.]+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == version


def test_constraints_hold_names_versions_and_markers_only() -> None:
    pin = re.compile(r'[a-z0-9-]+==[0-9][0-9a-z.]*(; python_version (<|>=) "3\.\d+")?')
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines():
        assert line.startswith("#") or pin.fullmatch(line), line


def test_the_demo_reaches_its_tolerances(environment: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.demo", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a 0.363636, b 0.272727, c 0.363636" in done.stdout  # (4, 3, 4) / 11
    for figure in ("leduc_poker.png", "leduc_poker.svg", "preference_cycle.png", "preference_cycle.svg"):
        assert (tmp_path / figure).stat().st_size > 10_000
    assert {load_result(path.parent)["algorithm"]["name"] for path in tmp_path.glob("*/result.json")} <= IN_FRONT


def test_the_methods_of_the_paper_stand_in_front(tmp_path: Path) -> None:
    """README's first example, `mmd compare` and the gallery show mirror descent, by what results say of themselves."""
    first = next(block for block in blocks(ROOT / "README.md") if block.language == "python")
    namespace: dict[str, Any] = {"__name__": "docs"}
    run_python(ROOT / "README.md", first, namespace)
    run_directory.save(namespace["solution"], tmp_path / "first")
    assert load_result(tmp_path / "first")["algorithm"]["name"] in IN_FRONT
    run_here(f"mmd compare preference:cycle --max-iterations 20 --quiet --out {tmp_path / 'compared'}")
    compared = [load_result(path.parent) for path in (tmp_path / "compared").glob("*/result.json")]
    assert {one["algorithm"]["name"] for one in compared} == IN_FRONT
    gallery = ROOT / "docs" / "gallery"
    shown = (gallery / "index.md").read_text("utf-8")
    own = {figure.name for figure in gallery.glob("*.svg")}
    assert own == {"lotteries.svg", *(f"{name}.svg" for name in FIGURES)}
    assert own <= set(re.findall(r"\]\(([\w-]+\.svg)\)", shown))
    assert shown.count(".svg)") >= 10
    found = {
        name: json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text("utf-8"))
        for name in ("gallery", "lottery_study", "two_loops", "theorem_rates")
    }
    assert found["gallery"].keys() == FIGURES.keys()
    assert all(set(methods) <= IN_FRONT for methods in found["gallery"].values())
    assert {name for name, methods in found["gallery"].items() if not methods} == {"qre-path"}  # equilibria, no run
    for runs in (
        found["lottery_study"]["results"],
        found["two_loops"]["games"].values(),
        found["theorem_rates"].values(),
    ):
        assert {run["algorithm"] for run in runs} <= IN_FRONT
