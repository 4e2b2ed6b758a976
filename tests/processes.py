"""The environment of processes that tests start, and several that talk over the loopback."""

import os
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Compiling is most of what tests cost. So XLA takes a third of the time for an engine, which iterates at two thirds of
# the speed then.
QUICK_XLA = "--xla_backend_optimization_level=0"
if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 12):  # later ones refuse to start with it
    QUICK_XLA += " --xla_cpu_use_fusion_emitters=false"
JOIN = """
import sys
import jax
port, process = sys.argv[1], int(sys.argv[2])
jax.distributed.initialize(f"127.0.0.1:{port}", 2, process, initialization_timeout=300)
"""


def environment(n_devices: int) -> dict[str, str]:
    """Of a process that has so many devices."""
    clean = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    flags = f"--xla_force_host_platform_device_count={n_devices} {QUICK_XLA}"
    return clean | {"XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_two(code: str, *arguments: object, seconds: float = 600) -> list[tuple[int, str]]:
    """Run code that gets a port, its number, and the arguments, in two processes; their status and what they said."""
    words = [str(argument) for argument in arguments]
    port = str(free_port())
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", code, port, str(process), *words],
            env=environment(4),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for process in range(2)
    ]
    try:
        said = [worker.communicate(timeout=seconds)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    return [(worker.returncode, text) for worker, text in zip(workers, said, strict=True)]
