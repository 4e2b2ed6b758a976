"""The wheel in empty environments: each Python, with the oldest and with the newest libraries.

    make release-check
    python -m benchmarks.faults.release [--pythons 3.11 3.12 3.13] [--libraries oldest newest] [--tests]

Builds the source distribution and the wheel of this checkout, and the wheel once more from the source distribution,
which must hold the same bytes. Then, one environment at a time: installs the wheel with the extras `plot` and `train`,
solves Kuhn poker with the default and with `mpo`, draws and reports, trains a tiny model by `mpo train`, and lets what
is exported answer. The oldest libraries are the lower bounds of pyproject.toml, the newest what pip takes of itself. A
command that fails ends the script with what it printed. `--tests` also runs the quick tests of the source distribution,
in minutes each.

Needs pip and the Pythons, as `python3.12` on the path or under pyenv. Results, environment by environment:
benchmarks/results/release.json; those of environments that are not run now are kept.
"""

import argparse
import email
import inspect
import itertools
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement

from benchmarks import report
from benchmarks.faults import kill_and_train

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = ("3.11", "3.12", "3.13")
LIBRARIES = ("oldest", "newest")
EXTRAS = ("plot", "train")
TEST_EXTRAS = (*EXTRAS, "judge", "data", "track", "dev")
LICENSE = "Apache-2.0 AND MIT"  # MIT is uPlot's, which reports carry with them
ROUNDS = 3
# What runs is the same; XLA takes a third of the time to compile it, and no program of another run is taken.
QUICK = {"JAX_COMPILATION_CACHE_DIR": "", "XLA_FLAGS": "--xla_backend_optimization_level=0"}
FREEZE = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"


class Failed(Exception):
    """A command failed, or what it made is wrong."""


def run(*command: object, folder: Path, **variables: str) -> str:
    """What a command prints, with none of this process's settings of Python and JAX.

    Raises:
        Failed: its exit status is not 0.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_", "PYTHON", "MPL"))}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=folder, env=kept | variables, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{' '.join(words)}: exit status {done.returncode}\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout


# -------------------------------------------------------------------- what is built


class Built(NamedTuple):
    """The two distributions, and the source distribution unpacked."""

    wheel: Path
    sdist: Path
    sources: Path


def build(folder: Path) -> Built:
    """Both distributions of this checkout, and the wheel of the source distribution, which is compared.

    Raises:
        Failed: the two wheels differ.
    """
    run(sys.executable, "-m", "hatchling", "build", "-d", folder / "dist", folder=ROOT)
    (wheel,), (sdist,) = (folder / "dist").glob("*.whl"), (folder / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    sources = folder / sdist.name.removesuffix(".tar.gz")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder / "again", folder=sources)
    (again,) = (folder / "again").glob("*.whl")
    if differing := {name for name, _ in content(wheel).items() ^ content(again).items()}:
        raise Failed(f"the wheel of the source distribution differs in {min(differing)}")
    return Built(wheel, sdist, sources)


def content(wheel: Path) -> dict[str, bytes]:
    """Files of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def facts(built: Built) -> dict[str, Any]:
    """What the wheel says of itself.

    Raises:
        Failed: licence, types or the code that pages carry are not in it.
    """
    files = content(built.wheel)
    (info,) = {name.partition("/")[0] for name in files if ".dist-info/" in name}
    said = email.message_from_bytes(files[f"{info}/METADATA"])
    licenses = [f"{info}/licenses/{name}" for name in said.get_all("License-File", [])]
    wanted = [*licenses, *(f"{package}/py.typed" for package in ("mmd", "games", "llm_bridge"))]
    wanted += ["mmd/report/assets/uplot/uPlot.iife.min.js", f"{info}/entry_points.txt"]
    if said["License-Expression"] != LICENSE or len(licenses) != 2:
        raise Failed(f"expected the licence {LICENSE} with two files, got {said['License-Expression']}: {licenses}")
    if missing := [name for name in wanted if name not in files]:
        raise Failed(f"the wheel has no {missing[0]}")
    return {
        "version": said["Version"],
        "license": said["License-Expression"],
        "requires_python": said["Requires-Python"],
        "files": len(files),
        "bytes": {"wheel": built.wheel.stat().st_size, "sdist": built.sdist.stat().st_size},
    }


def lower_bounds() -> dict[str, tuple[Requirement, str]]:
    """Every requirement of pyproject.toml with a lower bound, and the bound; by its text."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    texts = {*project["dependencies"], *(t for e in TEST_EXTRAS for t in project["optional-dependencies"][e])}
    asked = [Requirement(text) for text in sorted(texts)]
    bounds = ((one, [s.version for s in one.specifier if s.operator == ">="]) for one in asked)
    return {str(one): (one, found[0]) for one, found in bounds if found}


# -------------------------------------------------------------------- one environment


def interpreter(version: str) -> str:
    """The Python of that version, on the path or under pyenv.

    Raises:
        Failed: there is none.
    """
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    own = [sys.executable] if sys.version.startswith(f"{version}.") else []
    under_pyenv = sorted(map(str, (root / "versions").glob(f"{version}.*/bin/python")))
    for found in (*own, *under_pyenv, shutil.which(f"python{version}")):
        if found and not subprocess.run([found, "-c", "import ensurepip, venv"], capture_output=True).returncode:
            return found
    raise Failed(f"there is no Python {version} with venv, neither on the path nor under pyenv")


def install(folder: Path, built: Built, libraries: str, extras: tuple[str, ...]) -> dict[str, str]:
    """The wheel in the environment in `folder`; the versions of everything there then."""
    python, oldest = folder / "bin" / "python", folder / "oldest.txt"
    lines = (f"{r.name}=={bound}{f'; {r.marker}' if r.marker else ''}\n" for r, bound in lower_bounds().values())
    oldest.write_text("".join(lines))
    constraint = ("--constraint", oldest) if libraries == "oldest" else ()
    pip = (python, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--no-compile", *constraint, f"{built.wheel}[{','.join(extras)}]", folder=folder)
    run(*pip, "check", folder=folder)
    return json.loads(run(python, "-c", FREEZE, folder=folder))


def solve(folder: Path) -> dict[str, Any]:
    """Kuhn poker by the default and by MPO, with a figure and a report.

    Raises:
        Failed: what came out is not the equilibrium.
    """
    mmd, found = folder / "bin" / "mmd", {}
    run(mmd, "--help", folder=folder)
    for name in ("auto", "mpo"):
        shown = ("--algorithm", name, "--tolerance", "1e-9", "--out", name, "--plot", f"{name}.png")
        run(mmd, "solve", "kuhn_poker", *shown, folder=folder, **QUICK)
        run(mmd, "verify", "kuhn_poker", name, folder=folder)
        result = json.loads((folder / name / "result.json").read_text("utf-8"))
        if abs(result["value"] + 1 / 18) > 1e-8 or result["exploitability"] > 1e-9:
            raise Failed(f"Kuhn poker by {name}: expected the value -1/18, got {result['value']}")
        found[name] = {key: result[key] for key in ("value", "exploitability", "status")}
    run(mmd, "report", "auto", "mpo", "--out", "report.html", folder=folder)
    return found


def train(folder: Path, model: Path) -> dict[str, Any]:
    """A few rounds of MPO on a tiny model, and answers of what is exported.

    Raises:
        Failed: nothing was learnt, or a round is missing.
    """
    mpo, prompts = folder / "bin" / "mpo", model / "prompts.jsonl"
    run(mpo, "--help", folder=folder)
    typed = kill_and_train.words_of(
        model, str(folder / "run"), max_steps=ROUNDS, judge=f"{model / 'judge.py'}:distinct"
    )
    run(mpo, *typed, folder=folder, **QUICK)
    rows = (folder / "run" / "metrics.jsonl").read_text("utf-8").splitlines()
    before, after = (f / "model.safetensors" for f in (model / "model", folder / "run" / "policy"))
    if len(rows) != ROUNDS or before.read_bytes() == after.read_bytes():
        raise Failed(f"expected {ROUNDS} rounds that change the weights, got {len(rows)} rounds")
    asked = ("--model-name-or-path", after.parent, "--dataset-name", prompts, "--output-file", "answers.jsonl")
    run(mpo, "generate", *asked, "--max-new-tokens", "4", folder=folder, **QUICK)
    run(mpo, "report", "run", "--out", "training.html", folder=folder)
    return {"rounds": len(rows), "answers": len((folder / "answers.jsonl").read_text("utf-8").splitlines())}


def quick_tests(folder: Path, built: Built) -> dict[str, int]:
    """The quick tests of the source distribution, by how they ended."""
    pytest = (folder / "bin" / "python", "-m", "pytest", "--quick", "-q", "-p", "no:cacheprovider", "-x")
    printed = run(*pytest, folder=built.sources, CI="true")
    return {how: int(n) for n, how in re.findall(r"(\d+) (passed|skipped|deselected)", printed.splitlines()[-1])}


def measure(version: str, libraries: str, built: Built, model: Path, *, tests: bool) -> dict[str, Any]:
    """Everything in one environment, which is removed in the end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(interpreter(version), "-m", "venv", folder, folder=folder)
        versions = install(folder, built, libraries, TEST_EXTRAS if tests else EXTRAS)
        found = {"solve": solve(folder), "train": train(folder, model)}
        if tests:
            found["quick_tests"] = quick_tests(folder, built)
        python = run(folder / "bin" / "python", "--version", folder=folder).split()[1]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    named = {requirement.name.lower().replace("_", "-") for requirement, _ in lower_bounds().values()} | {"jaxlib"}
    kept = {name: v for name, v in sorted(versions.items()) if name.lower().replace("_", "-") in named}
    return {"python": python, "versions": kept, **found, "processor_seconds": round(used)}


def prepared(folder: Path) -> Path:
    """A tiny model with its prompts, and a judge in a file of its own."""
    folder.mkdir()
    kill_and_train.prepare(folder)
    judge = inspect.getsource(kill_and_train.distinct)
    (folder / "judge.py").write_text(f"from typing import Any\n\nimport numpy as np\n\n\n{judge}")
    return folder


def main() -> int:
    """Build, try, store after each environment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pythons", nargs="+", default=PYTHONS, metavar="VERSION")
    parser.add_argument("--libraries", nargs="+", default=LIBRARIES, choices=LIBRARIES)
    parser.add_argument("--tests", action="store_true", help="run the quick tests in each environment")
    asked = parser.parse_args()
    stored = report.RESULTS / "release.json"
    tried = json.loads(stored.read_text("utf-8"))["environments"] if stored.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        try:
            built = build(Path(name))
            wheel, model = facts(built), prepared(Path(name) / "tiny")
            for version, libraries in itertools.product(asked.pythons, asked.libraries):
                case = f"{version} {libraries}"
                tried[case] = measure(version, libraries, built, model, tests=asked.tests)
                print(case, json.dumps(tried[case]), flush=True)
                report.store("release", {"environment": report.environment(), "wheel": wheel, "environments": tried})
        except Failed as error:
            print(f"release: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
