"""How long a newcomer waits: an environment, the package with figures, a first solved game.

    python -m benchmarks.device.newcomer

Installs this checkout with the extra `plot` into an empty environment in a temporary folder and solves Kuhn poker
there, with no compiled program kept. Processor seconds are those of the children, and do not depend on the network or
on what else the machine does; the clock does. Results: benchmarks/results/newcomer.json.
"""

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
        folder = Path(name)
        python, mmd = folder / "bin" / "python", folder / "bin" / "mmd"
        install = [*(str(python), "-m", "pip", "install", "--quiet"), "--constraint", str(ROOT / "constraints.txt")]
        steps = {
            "environment": [sys.executable, "-m", "venv", name],
            "install": [*install, f"{ROOT}[plot]"],
            "solve Kuhn poker": [str(mmd), "solve", "kuhn_poker", "--algorithm", "mpo"],
        }
        found = {step: timed(command, folder) for step, command in steps.items()}
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    report.print_table(("step", "seconds", "processor seconds"), [(k, *map(str, v.values())) for k, v in found.items()])
    report.store("newcomer", {"environment": report.environment(), "steps": found, "bytes": size})


if __name__ == "__main__":
    main()
