"""Memory of the host while a checkpoint is loaded onto eight devices.

    python -m benchmarks.device.loading [--megabytes 300]

A Llama with random weights is saved, then loaded in a process of its own onto a mesh of 4 x 2 pretended CPU devices,
whose memory is the host's as well. A thread samples the process's memory (anonymous pages: mapped files are the
system's to drop), and glibc is set to return what is freed at once, so that it is memory in use. What the shards do not
explain is what loading needs besides them; the promise is 1.3 times the largest tensor.

Results: benchmarks/results/loading.json.
"""

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.report import environment, print_table, store

WIDTH, LAYER_BYTES = 1024, 4 * (4 * 1024**2 + 3 * 1024 * 2816)
LLAMA = {
    "model_type": "llama",
    "hidden_size": WIDTH,
    "intermediate_size": 2816,
    "num_attention_heads": 16,
    "vocab_size": 8192,
}
SHARD_BYTES = 100_000_000
SAMPLE_SECONDS = 0.001
RETURN_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
MIB = 2**20


def anonymous_bytes() -> int:
    """Memory of this process that no file backs."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return 1024 * int(line.split()[1])


def load_and_watch(folder: str, warm_up: str) -> dict[str, Any]:
    """Bytes before loading, at the most, and of the shards."""
    import jax

    import llm_bridge as bridge

    mesh = jax.make_mesh((4, 2), ("fsdp", "tensor"))
    jax.block_until_ready(bridge.load(warm_up, mesh=mesh).arrays())  # compiles
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # so that what it took is not there to be used again
    before, peak, done = anonymous_bytes(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, anonymous_bytes())
            time.sleep(SAMPLE_SECONDS)

    watcher = threading.Thread(target=watch)
    watcher.start()
    arrays = jax.block_until_ready(bridge.load(folder, mesh=mesh).arrays())
    done.set()
    watcher.join()
    held = sum(shard.data.nbytes for array in arrays.values() for shard in array.addressable_shards)
    return {"before": before, "peak": peak, "shards": held}


def measure(megabytes: int, scratch: Path) -> dict[str, Any]:
    """Save a checkpoint of about this size and a small one, and load both in another process."""
    import jax
    import numpy as np
    from safetensors import safe_open

    import llm_bridge as bridge

    n_layers = max(1, round((megabytes * MIB - 8 * 8192 * WIDTH) / LAYER_BYTES))
    folders = {}
    for name, layers in (("large", n_layers), ("small", 1)):
        policy = bridge.init(LLAMA | {"num_hidden_layers": layers}, jax.random.key(0))
        folders[name] = bridge.save(policy, scratch / name, shard_bytes=SHARD_BYTES)
    largest = 0
    for path in folders["large"].glob("*.safetensors"):
        with safe_open(path, "numpy") as file:
            shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118 - not a dict
        largest = max([largest, *(4 * int(np.prod(shape)) for shape in shapes)])
    command = [
        sys.executable,
        "-m",
        "benchmarks.device.loading",
        "--worker",
        str(folders["large"]),
        str(folders["small"]),
    ]
    variables = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"} | RETURN_MEMORY
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | variables)
    found = json.loads(done.stdout.splitlines()[-1])
    besides = found["peak"] - found["before"] - found["shards"]
    return found | {"largest_tensor": largest, "besides_shards": besides, "of_largest_tensor": besides / largest}


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=300, help="of the checkpoint")
    parser.add_argument("--worker", nargs=2, metavar="FOLDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(load_and_watch(*arguments.worker)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(arguments.megabytes, Path(scratch))
    rows = [(name, f"{found[name] / MIB:.1f}") for name in ("shards", "largest_tensor", "besides_shards")]
    print_table(("what", "MiB"), rows)
    print(f"besides the shards: {found['of_largest_tensor']:.2f} of the largest tensor")
    store("loading", {"environment": environment(), "results": found})


if __name__ == "__main__":
    main()
