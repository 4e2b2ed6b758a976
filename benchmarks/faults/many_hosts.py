"""What the first of many processes keeps in mind, and what the others say when one of them is gone.

    python -m benchmarks.faults.many_hosts [--only memory gone] [--rounds 200]

memory: `mpo train` of a tiny model with the prompts, answers, verdicts and log lines of 64 hosts, 4 prompts with 4
answers from each, all in one process, as the first process of a pod has them. Its memory after the last round must be
that after round 20, to 5 %.

gone: `mpo train --distributed` in four processes over the loopback, of which the third one dies (SIGKILL) or stands
still (SIGSTOP) after round 2. What each of the others says, how long after, and whether the lost one is named.

Results: benchmarks/results/many_hosts.json.
"""

import argparse
import gc
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.faults.kill_and_train import prepare, words_of
from benchmarks.report import environment, print_table, store, stored

HOSTS, EACH, ANSWERS = 64, 4, 4
WARM = 20  # rounds after which memory is measured first
PROCESSES, LOST = 4, 2
LONGEST = 300.0  # seconds that the others are waited for


def longer(prompts: Any, a: Any, b: Any) -> np.ndarray:
    """A judge."""
    return 0.5 + 0.5 * np.sign(np.array([len(x) - len(y) for x, y in zip(a, b, strict=True)]))


def measure_memory(folder: Path, rounds: int) -> dict[str, Any]:
    """Bytes of this process that are in memory, after each round that is a multiple of ten."""
    from llm_bridge.command.cli import main
    from llm_bridge.run.training_log import TrainingLog

    written, found = TrainingLog.write, {}

    def write(log: TrainingLog, number: int, metrics: Any) -> None:
        written(log, number, metrics)
        if number % 10 == 0:
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            found[number] = pages * os.sysconf("SC_PAGE_SIZE")

    prompts = folder / "many.jsonl"
    rows = (json.dumps({"prompt": " ".join(f"w{(i // 10**k) % 10}" for k in range(4))}) for i in range(HOSTS * EACH))
    prompts.write_text("".join(f"{row}\n" for row in rows))
    sizes = {"prompts_per_round": HOSTS * EACH, "num_generations": ANSWERS, "max_steps": rounds, "save_steps": rounds}
    judge = {"judge": "benchmarks.faults.many_hosts:longer", "dataset_name": prompts, "eval_share": 0}
    with mock.patch.object(TrainingLog, "write", write):
        status = main(words_of(folder, "many", **sizes, **judge))
    assert status == 0
    return {
        "prompts_a_round": HOSTS * EACH,
        "answers_a_round": HOSTS * EACH * ANSWERS,
        "bytes": found,
        "growth": found[rounds] / found[WARM] - 1,
    }


def measure_gone(folder: Path, how: signal.Signals) -> dict[str, Any]:
    """Four processes, one of which is gone after round 2."""
    out = f"run-{how.name}"
    judge = {"judge": "benchmarks.faults.many_hosts:longer", "max_steps": 100_000, "eval_share": 0}
    words = [*words_of(folder, out, **judge), "--distributed", "--mesh", f"data={PROCESSES}"]
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    clean |= {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{_free_port()}", "JAX_NUM_PROCESSES": str(PROCESSES)}
    logs = [folder / f"{out}-{i}.txt" for i in range(PROCESSES)]
    processes = []
    for i, log in enumerate(logs):
        with log.open("wb") as file:
            started = [sys.executable, "-m", "llm_bridge", *words]
            environment = clean | {"JAX_PROCESS_ID": str(i)}
            processes.append(subprocess.Popen(started, env=environment, stdout=file, stderr=subprocess.STDOUT))
    try:
        lines = folder / out / "metrics.jsonl"
        while not (lines.exists() and lines.read_text().count("\n") > 2):
            assert all(process.poll() is None for process in processes), [log.read_text()[-2000:] for log in logs]
            time.sleep(0.1)
        processes[LOST].send_signal(how)
        begun, ended = time.monotonic(), dict[int, float]()
        while len(ended) < PROCESSES - 1 and time.monotonic() - begun < LONGEST:
            for i, process in enumerate(processes):
                if i != LOST and i not in ended and process.poll() is not None:
                    ended[i] = time.monotonic() - begun
            time.sleep(0.1)
    finally:
        for process in processes:
            process.kill()
    told = {i: logs[i].read_text("utf-8", "replace") for i in ended}
    return {
        "seconds": ended,
        "statuses": {i: processes[i].returncode for i in ended},
        "said": {
            i: next((line for line in text.splitlines() if line.startswith("mpo: ")), "") for i, text in told.items()
        },
        "named": {i: bool(re.search(rf"[Tt]ask[: ]{LOST}\b", text)) for i, text in told.items()},
    }


def _sentence(text: str) -> str:
    """What `mpo` itself says at last."""
    return next((line for line in text.splitlines() if line.startswith("mpo: ")), "")


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def report(results: dict[str, Any]) -> None:
    """A line for the memory, a table for those that are gone."""
    if found := results.get("memory"):
        last = max(found["bytes"], key=int)
        print(f"memory after round {last}: {100 * found['growth']:+.1f} % of that after round {WARM}")
    rows = [
        (name, i, f"{found['seconds'][i]:.0f}", found["statuses"][i], found["named"][i])
        for name, found in results.get("gone", {}).items()
        for i in found["seconds"]
    ]
    print_table(("lost by", "process", "seconds until it ends", "exit status", "names the lost one"), rows)


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=("memory", "gone"), default=["memory", "gone"])
    parser.add_argument("--rounds", type=int, default=200)
    arguments = parser.parse_args()
    results = stored("many_hosts")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        if "memory" in arguments.only:
            results["memory"] = measure_memory(folder, arguments.rounds)
        if "gone" in arguments.only:
            results["gone"] = {how.name: measure_gone(folder, how) for how in (signal.SIGKILL, signal.SIGSTOP)}
    results["environment"] = environment()
    report(results)
    store("many_hosts", results)


if __name__ == "__main__":
    main()
