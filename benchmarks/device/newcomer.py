"""How long a newcomer waits: a clone, an environment, the package with figures, a first solved game.

    python -m benchmarks.device.newcomer

Clones what is committed here and installs it with the extra `plot` into an empty environment, both in a temporary
folder. Then solves Kuhn poker there, with no compiled program kept; of that run's seconds those of the compiler and of
the solver stand apart. Processor seconds are those of the children, and do not depend on the network or on what else
the machine does; the clock does. Results: benchmarks/results/newcomer.json.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import report

ROOT = Path(__file__).resolve().parents[2]


def timed(command: list[str], folder: Path) -> dict[str, float]:
    """Seconds of a command, by the clock and of processors."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_", "PYTHON"))}
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, env=kept, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(time.perf_counter() - begun, 1), "processor_seconds": round(used, 1)}


def main() -> None:
    """Install, solve, store."""
    with tempfile.TemporaryDirectory() as name:
        folder, clone = Path(name), Path(name) / "clone"
        there = folder / "environment"
        python, mmd = there / "bin" / "python", there / "bin" / "mmd"
        install = [*(str(python), "-m", "pip", "install", "--quiet"), "--constraint", str(clone / "constraints.txt")]
        steps = {
            "clone": ["git", "clone", "--quiet", str(ROOT), str(clone)],
            "environment": [sys.executable, "-m", "venv", str(there)],
            "install": [*install, f"{clone}[plot]"],
            "solve Kuhn poker": [str(mmd), "solve", "kuhn_poker", "--algorithm", "mpo", "--out", "run"],
        }
        found = {step: timed(command, folder) for step, command in steps.items()}
        found["in all"] = {key: round(sum(one[key] for one in found.values()), 1) for key in found["install"]}
        inside = json.loads((folder / "run" / "result.json").read_text("utf-8"))["seconds"]
        size = sum(path.stat().st_size for path in there.rglob("*") if path.is_file() and not path.is_symlink())
    report.print_table(("step", "seconds", "processor seconds"), [(k, *map(str, v.values())) for k, v in found.items()])
    stored = {"steps": found, "seconds_of_the_solve": inside, "bytes": size}
    report.store("newcomer", {"environment": report.environment(), **stored})


if __name__ == "__main__":
    main()
