"""Solves that are killed at random instants and resumed each time, against the same solves left alone.

    python -m benchmarks.faults.kill_and_resume [--kills 200]

`mmd solve ... --resume` runs as a process of its own and gets SIGKILL at one of three kinds of moments: anywhere, the
start of Python and the compilation included; while it solves; while it writes a checkpoint, that is as soon as the
unfinished file is seen. To make writes frequent, checkpoints are due after every chunk instead of every two seconds,
and chunks take a hundredth of a second instead of a fifth.
In the end policy, trace and result must be those of a run that nobody killed, bit for bit, seconds apart. What
checkpoints cost is measured at the usual interval. Results: benchmarks/results/kill_and_resume.json.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

import games
import mmd
from benchmarks.report import environment, print_table, store
from mmd.measure.run_directory import CHECKPOINT
from mmd.solving.checkpoint import Checkpoint

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = (
    "import mmd.solving.checkpoint as checkpoint\n"
    "import mmd.solving.solver as solver\n"
    "checkpoint.SECONDS_BETWEEN, checkpoint.WRITING_SHARE, solver.CHUNK_SECONDS = 0.0, 1.0, 0.01\n"
    "from mmd.command.cli import entry\n"
    "entry()\n"
)
SETTINGS = (
    "kuhn_poker --tolerance 0 --max-iterations 80000 --algorithm restarted --no-polish",
    "kuhn_poker --tolerance 0 --max-iterations 80000 --algorithm mmd --magnet refresh=50 --alpha 0.5",
    "kuhn_poker --tolerance 0 --max-iterations 80000 --algorithm pcfr+ --seed 3",
    "kuhn_poker --tolerance 0 --max-iterations 80000 --algorithm mmd --alpha 1 --magnet moving=0.00001 --dtype float32",
    "leduc_poker --tolerance 0 --max-iterations 20000 --algorithm restarted --polish",
)
MOMENTS = ("anywhere", "solving", "writing", "solving")
LIFETIME = 2.5  # seconds: a kill anywhere comes within them
WHILE_SOLVING = 0.15  # seconds after the first checkpoint
POLL = 2e-4
UNCONVERGED = 3  # the exit status of `mmd solve` that ended at a limit
SEED = 20_261_121


class Kill(NamedTuple):
    """When the signal was meant to come, and whether it interrupted the writing of a checkpoint."""

    moment: str
    left_a_part: bool


def kill_once(
    command: Sequence[str], run: Path, moment: str, rng: np.random.Generator, lifetime: float = LIFETIME
) -> Kill | None:
    """Start the command and kill it at a moment; None if it ended first. A kill anywhere comes within its lifetime."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    anywhere, solving = rng.uniform(0, lifetime), rng.uniform(0, WHILE_SOLVING)
    begun, before, saved_at = time.monotonic(), _stamp(run), None
    while process.poll() is None:
        now = time.monotonic()
        if saved_at is None and _stamp(run) not in (before, None):
            saved_at = now
        if moment == "anywhere":
            due = now - begun >= anywhere
        else:
            due = saved_at is not None and (_parts(run) if moment == "writing" else now - saved_at >= solving)
        if due:
            process.kill()
            break
        time.sleep(POLL)
    errors = process.communicate()[1]
    if process.returncode > 0 and process.returncode != UNCONVERGED:
        raise RuntimeError(errors)
    return Kill(moment, _parts(run)) if process.returncode < 0 else None


def killed_and_resumed(
    words: Sequence[str], run: Path, kills: int, rng: np.random.Generator, lifetime: float = LIFETIME
) -> list[Kill]:
    """Solve, killed up to so often, and then left alone to the end.

    Args:
        words: what follows `mmd solve`.
        run: the run directory.
        kills: how many; fewer if the solve is done before.
        rng: draws the instants.
        lifetime: seconds within which a kill anywhere comes.
    """
    command = [sys.executable, "-c", PROGRAM, "solve", *words, "--out", str(run), "--resume", "--quiet"]
    done: list[Kill] = []
    while len(done) < kills:
        kill = kill_once(command, run, MOMENTS[len(done) % len(MOMENTS)], rng, lifetime)
        if kill is None:
            break
        done.append(kill)
    left_alone(command)
    return done


def left_alone(command: Sequence[str]) -> None:
    """Run a command to its end: the tolerance or the iteration limit."""
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if finished.returncode not in (0, UNCONVERGED):
        raise RuntimeError(finished.stderr)


def solve_once(words: Sequence[str], run: Path) -> None:
    """The same solve as anybody would run it."""
    left_alone([sys.executable, "-m", "mmd", "solve", *words, "--out", str(run), "--quiet"])


def differences(one: Path, other: Path) -> list[str]:
    """What differs between two run directories, seconds and commands apart."""
    contents = [_content(run) for run in (one, other)]
    return [name for name in contents[0] if contents[0][name] != contents[1][name]]


def _content(run: Path) -> dict[str, Any]:
    with np.load(run / "policy.npz") as policy:
        arrays = {name: policy[name].tobytes() for name in policy.files}
    with (run / "trace.csv").open(newline="") as file:
        trace = timeless(list(csv.DictReader(file)))
    return {**arrays, "trace": trace, "result": timeless(json.loads((run / "result.json").read_text("utf-8")))}


def timeless(value: Any) -> Any:
    """A report without its seconds, wherever they stand in it."""
    if isinstance(value, list):
        return [timeless(item) for item in value]
    if isinstance(value, dict):
        return {name: timeless(item) for name, item in value.items() if name != "seconds"}
    return value


def _stamp(run: Path) -> tuple[int, int] | None:
    """What changes whenever the checkpoint is replaced."""
    try:
        found = (run / CHECKPOINT).stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def _parts(run: Path) -> bool:
    """Whether an unfinished checkpoint lies in the folder."""
    return run.is_dir() and any(name.startswith(f".{CHECKPOINT}") for name in os.listdir(run))


def share_of_time(spec: str, seconds: float) -> float:
    """What part of a solve is spent on checkpoints at the usual interval."""
    spent = 0.0
    save = Checkpoint.save

    def timed(*arguments: Any) -> None:
        nonlocal spent
        begun = time.perf_counter()
        save(*arguments)
        spent += time.perf_counter() - begun

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(Checkpoint, "save", timed):
        game, path = games.load(spec), Path(folder) / CHECKPOINT
        mmd.solve(game, mmd.Restarted(), tolerance=0.0, time_limit=seconds, max_iterations=10**9, checkpoint=path)
    return spent / seconds


def measure(setting: str, kills: int, folder: Path, rng: np.random.Generator) -> dict[str, Any]:
    """Runs of one setting until it was killed so often, each compared with the undisturbed one."""
    words = setting.split()
    reference = folder / "reference"
    solve_once(words, reference)
    done: list[Kill] = []
    differing: list[list[str]] = []
    while len(done) < kills:
        run = folder / f"run{len(differing)}"
        done += killed_and_resumed(words, run, kills - len(done), rng)
        differing.append(differences(reference, run))
    return {
        "setting": setting,
        "kills": dict(Counter(kill.moment for kill in done)),
        "inside_a_write": sum(kill.left_a_part for kill in done),
        "runs": len(differing),
        "differing": [names for names in differing if names],
    }


def main() -> None:
    """Kill, resume, compare, print, store."""
    parser = argparse.ArgumentParser(description="Solves killed at random instants and resumed, bit for bit.")
    parser.add_argument("--kills", type=int, default=200)
    kills = parser.parse_args().kills
    rng = np.random.default_rng(SEED)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{folder}/programs"
        for i, setting in enumerate(SETTINGS):
            quota = kills // len(SETTINGS) + (i < kills % len(SETTINGS))
            results.append(measure(setting, quota, Path(folder) / str(i), rng))
    rows = [
        (
            r["setting"],
            *(str(r["kills"].get(moment, 0)) for moment in MOMENTS[:3]),
            str(r["inside_a_write"]),
            str(r["runs"]),
            str(len(r["differing"])),
        )
        for r in results
    ]
    print_table(("solve", *(f"killed {m}" for m in MOMENTS[:3]), "inside a write", "runs", "differing"), rows)
    share = {spec: share_of_time(spec, 10.0) for spec in ("kuhn_poker", "leduc_poker")}
    print("share of the time spent on checkpoints:", ", ".join(f"{s} {part:.2%}" for s, part in share.items()))
    numbers = {"environment": environment(), "seed": SEED, "results": results, "share_of_time": share}
    store("kill_and_resume", numbers)


if __name__ == "__main__":
    main()
