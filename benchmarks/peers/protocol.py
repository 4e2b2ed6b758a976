"""How the comparison talks to a solver in another environment: one line of JSON each way, through a pipe.

The runner builds, says so, and then times its step whenever it is asked: so several solvers can be timed in turn while
each keeps its state, and none does anything between its turns.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.timing import seconds_per_step

ROOT = Path(__file__).resolve().parents[2]
PEERS = Path(os.environ.get("PEERS", ROOT / ".peers"))


def serve(build: Callable[[], Callable[[int], None]], *distributions: str) -> None:
    """The runner's side.

    Args:
        build: returns a function that advances by a number of steps.
        distributions: whose versions to report.
    """
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a solver prints is no reply
    begun = time.perf_counter()
    run = build()
    ready = {
        "build_seconds": time.perf_counter() - begun,
        "versions": {name: metadata.version(name) for name in distributions},
    }
    print(json.dumps(ready), file=replies, flush=True)
    for line in sys.stdin:
        print(json.dumps(seconds_per_step(run, json.loads(line))), file=replies, flush=True)


class Peer:
    """The comparison's side: a runner in the environment of its solver.

    Attributes:
        ready: what it said when it was built: `build_seconds` and `versions`.
    """

    def __init__(self, environment: str, *arguments: str) -> None:
        """Start `benchmarks.peers.run_ENVIRONMENT` with the arguments; `wait` for it before timing."""
        python = PEERS / environment / "bin" / "python"
        if not python.exists():
            raise SystemExit(f"there is no environment of {environment}: run make peers")
        self.name = environment
        command = [str(python), "-m", f"benchmarks.peers.run_{environment}", *arguments]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        )
        self.ready: dict[str, Any] = {}

    def wait(self) -> None:
        """Until it is built."""
        self.ready = self._reply()

    def seconds_per_step(self) -> float:
        """Have it time its step."""
        assert self.process.stdin is not None
        print(json.dumps(AT_LEAST), file=self.process.stdin, flush=True)
        return self._reply()

    def close(self) -> None:
        """End it."""
        self.process.communicate()

    def _reply(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with status {self.process.wait()} before it replied")
        return json.loads(line)


AT_LEAST = 0.25  # seconds
