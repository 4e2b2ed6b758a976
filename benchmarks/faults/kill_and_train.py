"""Training that is killed, whose checkpoints are damaged, whose judge goes away.

    python -m benchmarks.faults.kill_and_train [--only kills behind damage judge] [--kills 50] [--trials 300]

kills: `mpo train --resume` of a tiny model gets SIGKILL anywhere, right after a round, or while a checkpoint is being
written, that is as soon as the unfinished folder is seen. In the end the policy and every line of metrics.jsonl must be
those of a run that nobody killed, bit for bit. Processes are forked from one that has imported everything, and find
compiled programs on the disk, so that a life is short.

behind: the same, with checkpoints that are written while the next rounds go on, as they are on accelerators.

damage: one bit of a checkpoint is flipped, a file is cut off or removed, or the manifest that commits it. Each time the
damage has to be found and the checkpoint before has to be taken, bit for bit.

judge: a service that fails 30 % of the time (no answer, 429, 500, connections that are reset) and is down for five
minutes of a clock of its own, and one that refuses so many comparisons that the run has to stop.

Results: benchmarks/results/kill_and_train.json.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import shutil
import socket
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import environment, print_table, store, stored

CONFIG = {
    "model_type": "llama",
    "vocab_size": 12,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
WORDS = ["<pad>", "</s>", *(f"w{i}" for i in range(10))]
ROUNDS = 12
FLAGS = {
    "dataset_name": "prompts.jsonl",
    "num_generations": 4,
    "prompts_per_round": 2,
    "max_new_tokens": 4,
    "num_iterations": 2,
    "learning_rate": 1e-3,
}
MOMENTS = ("anywhere", "after a round", "writing")
PRELOAD = ["llm_bridge.command.cli", "llm_bridge.command.commands", "orbax.checkpoint", "transformers", "optax"]
DAMAGES = ("flip", "truncate", "delete", "uncommit")
SEED = 20_261_122
POLL = 5e-4
FAULTS = ("silent", "429", "500", "reset")
OUTAGE = 300.0  # seconds


def distinct(prompts: Any, a: Any, b: Any) -> np.ndarray:
    """A judge: the larger share of distinct words."""
    shares = [np.array([len(set(x.split())) / max(1, len(x.split())) for x in side]) for side in (a, b)]
    return 1 / (1 + np.exp(3 * (shares[1] - shares[0])))


def prepare(folder: Path) -> None:
    """A tiny model with a tokenizer, and prompts."""
    import jax
    import tokenizers
    from tokenizers import models, pre_tokenizers

    import llm_bridge as bridge

    bridge.save(bridge.init(CONFIG, jax.random.key(0)), folder / "model")
    words = tokenizers.Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.save(str(folder / "model" / "tokenizer.json"))
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "pad_token": "<pad>"}
    (folder / "model" / "tokenizer_config.json").write_text(json.dumps(names))
    rows = (json.dumps({"prompt": f"w{i} w{(3 * i + 1) % 10}"}) for i in range(10))
    (folder / "prompts.jsonl").write_text("".join(f"{row}\n" for row in rows))


def words_of(folder: Path, out: str, **flags: Any) -> list[str]:
    """What is typed behind `mpo`."""
    typed = FLAGS | {"model_name_or_path": folder / "model", "output_dir": folder / out, "max_steps": ROUNDS}
    typed |= {"judge": "benchmarks.faults.kill_and_train:distinct", "dataset_name": folder / "prompts.jsonl"} | flags
    return ["train", "--quiet", *(word for name, value in typed.items() for word in (f"--{name}", str(value)))]


def life(words: list[str], log: str, behind: bool) -> None:
    """What a process does; `behind` says whether it writes checkpoints while it goes on."""
    from llm_bridge.command import training_run
    from llm_bridge.command.cli import main

    training_run.BEHIND = ("cpu",) if behind else ()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os._exit(main(words))


# -------------------------------------------------------------------- kills


def killed_once(start: Callable[[], Any], run: Path, moment: str, rng: np.random.Generator, usual: float) -> str | None:
    """Start a process and kill it; whether "inside" a write or "outside", None if it ended first."""
    before, left = _size(run / "metrics.jsonl"), _parts(run)  # of the process before
    process, begun, wait = start(), time.monotonic(), rng.uniform(0, usual)
    while process.is_alive():
        due = {
            "anywhere": time.monotonic() - begun > wait,
            "after a round": _size(run / "metrics.jsonl") > before,
            "writing": bool(_parts(run) - left),
        }[moment]
        if due:
            process.kill()
            break
        time.sleep(POLL)
    process.join()
    if process.exitcode == 0:
        return None
    if process.exitcode != -9:
        raise RuntimeError((run.parent / "log").read_text()[-2000:])
    return "inside" if _parts(run) - left else "outside"


def measure_kills(folder: Path, kills: int, *, behind: bool = False) -> dict[str, Any]:
    """Runs until they were killed so often, each compared with the undisturbed one; `behind` as of `life`."""
    rng, context = np.random.default_rng(SEED), multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)

    def start(out: str, *more: str) -> Any:
        words = [*words_of(folder, out, save_steps=1), *more]
        process = context.Process(target=life, args=(words, str(folder / "log"), behind))
        process.start()
        return process

    lives = []
    for name in ("first", "reference"):  # the first one compiles
        begun = time.monotonic()
        (process := start(name)).join()
        lives.append(time.monotonic() - begun)
        assert process.exitcode == 0, (folder / "log").read_text()[-2000:]
    moments: Counter[str] = Counter()
    inside, differing, n_runs = 0, [], 0
    while sum(moments.values()) < kills:
        run, n_runs = folder / f"run{n_runs}", n_runs + 1
        while sum(moments.values()) < kills:
            moment = MOMENTS[sum(moments.values()) % len(MOMENTS)]
            where = killed_once(lambda out=run.name: start(out, "--resume"), run, moment, rng, lives[-1])
            if where is None:
                break
            moments[moment] += 1
            inside += where == "inside"
            print(f"killed {sum(moments.values())} times", flush=True)
        (process := start(run.name, "--resume")).join()
        assert process.exitcode == 0, (folder / "log").read_text()[-2000:]
        differing += [name for name in ("metrics.jsonl", "policy/model.safetensors") if _differ(folder, run, name)]
        shutil.rmtree(run)
    return {"kills": dict(moments), "inside_a_write": inside, "runs": n_runs, "differing": differing}


def _differ(folder: Path, run: Path, name: str) -> bool:
    """Whether a file of a run differs from that of the undisturbed one, but for what a clock says."""
    from llm_bridge.run import training_log

    mine, other = run / name, folder / "reference" / name
    if name == training_log.FILE:
        return training_log.rows(mine, times=False) != training_log.rows(other, times=False)
    return mine.read_bytes() != other.read_bytes()


def _parts(run: Path) -> set[tuple[str, int]]:
    """Unfinished checkpoints, and when each was last changed."""
    found = set()
    for path in run.glob("checkpoints/.step_*"):
        with contextlib.suppress(FileNotFoundError):  # it is finished meanwhile
            found.add((path.name, path.stat().st_ctime_ns))
    return found


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


# -------------------------------------------------------------------- damage


def damage(kind: str, path: Path, rng: np.random.Generator) -> None:
    """Do something to a checkpoint."""
    from llm_bridge.run.run_state import MANIFEST

    files = sorted(file for file in path.rglob("*") if file.is_file() and file.stat().st_size)
    file = files[rng.integers(len(files))]
    content = bytearray(file.read_bytes())
    if kind == "flip":
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        file.write_bytes(content)
    elif kind == "truncate":
        file.write_bytes(content[: rng.integers(len(content))])
    else:
        (file if kind == "delete" else path / MANIFEST).unlink()


def measure_damage(folder: Path, trials: int) -> dict[str, Any]:
    """A training state saved twice, the second one damaged, over and over."""
    import jax

    import llm_bridge as bridge
    from llm_bridge.run.run_state import FOLDER, RunState, RunStateWarning

    policy = bridge.init(CONFIG, jax.random.key(0))
    state = bridge.MPO().init(policy, jax.random.key(1))
    states, whole = RunState(folder / "whole", {"run": "damaged"}), folder / "whole" / FOLDER
    states.save(1, state)
    expected = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]
    states.save(2, jax.tree.map(lambda leaf: leaf + 1, state))
    rng, found = np.random.default_rng(SEED), {kind: Counter(dict.fromkeys(("trials", "found"), 0)) for kind in DAMAGES}
    for trial in range(trials):
        kind, run = DAMAGES[trial % len(DAMAGES)], folder / "damaged"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(whole, run / FOLDER)
        damage(kind, run / FOLDER / "step_00000002", rng)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", RunStateWarning)
            saved = RunState(run, {"run": "damaged"}).restore(state)
        assert saved is not None
        same = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(saved.state)] == expected
        warned = any(issubclass(one.category, RunStateWarning) for one in said)
        found[kind].update(trials=1, found=int(warned and saved.step == 1 and same))
    return {kind: dict(counts) for kind, counts in found.items()}


# -------------------------------------------------------------------- a judge that goes away


class Service:
    """A chat model on the loopback that fails as it is told, with the clock that it and its client go by.

    Args:
        fault: of the request's number and the time, what to do instead of answering; "" to answer.
    """

    def __init__(self, fault: Callable[[int, float], str]):
        self.time, self.asked, self.faults, self.lock = 0.0, 0, Counter[str](), threading.Lock()
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                with service.lock:
                    kind = fault(service.asked, service.time)
                    service.asked += 1
                    service.faults[kind] += 1
                if kind == "reset":
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    self.close_connection = True
                    self.connection.close()
                elif kind == "silent":
                    time.sleep(1.5)  # longer than the client's timeout
                    self.close_connection = True
                else:
                    body = json.dumps({"choices": [{"message": {"content": "A"}}]}).encode()
                    self.send_response(int(kind or 200))
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda request, client_address: None
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def sleep(self, seconds: float) -> None:
        """Time passes for both."""
        with self.lock:
            self.time += seconds


class Told:
    """An HTTP judge that counts; the service always names the first answer, so a preference of either order is 1."""

    symmetric = False

    def __init__(self, service: Service):
        from llm_bridge.judges.http import HttpJudge

        endpoint = f"http://127.0.0.1:{service.server.server_port}/v1"
        clock = {"now": lambda: service.time, "sleep": service.sleep}
        self.judge = HttpJudge(endpoint, "tiny", key_variable=None, timeout=1.0, concurrency=1, **clock)
        self.reasons: Counter[str] = Counter()
        self.invented = 0

    def dry_run(self, prompts: Any) -> None:
        """The faults are for the run."""

    def __call__(self, prompts: Any, a: Any, b: Any) -> np.ndarray:
        """See `Judge`."""
        values, reasons = self.judge.ask_all(prompts, a, b)
        self.reasons.update(reasons)
        wanted = [np.nan if why else 1.0 for why in reasons]
        self.invented += int(np.sum(~((values == wanted) | (np.isnan(values) & np.isnan(wanted)))))
        return values


def judged(folder: Path, name: str, rounds: int, fault: Callable[[int, float], str]) -> dict[str, Any]:
    """Train with a service that fails so."""
    from unittest import mock

    from llm_bridge.command import train_commands
    from llm_bridge.command.cli import main
    from llm_bridge.run import training_log

    service = Service(fault)
    told = Told(service)
    with mock.patch.object(train_commands, "judge_of", return_value=told):
        status = main(words_of(folder, name, max_steps=rounds, save_steps=10))
    service.server.shutdown()
    rows = training_log.rows(folder / name / "metrics.jsonl")
    return {
        "exit_status": status,
        "rounds": sum(row["round"] > 0 for row in rows),
        "saved": max(int(path.name.rpartition("_")[2]) for path in (folder / name / "checkpoints").glob("step_*")),
        "requests": service.asked,
        "faults": {kind: n for kind, n in service.faults.items() if kind},
        "comparisons": sum(told.reasons.values()),
        "failed": {why: n for why, n in told.reasons.items() if why},
        "failed_frac_logged": float(np.mean([row["judge/failed_frac"] for row in rows])),
        "turned_into_a_preference": told.invented,
        "seconds_of_its_clock": service.time,
    }


def measure_judge(folder: Path) -> dict[str, Any]:
    """Occasional faults; five minutes without any answer; refusals above a fifth of all."""
    rng, begun = np.random.default_rng(SEED), []

    def often(number: int, now: float) -> str:
        return FAULTS[rng.integers(len(FAULTS))] if rng.random() < 0.3 else ""

    def down(number: int, now: float) -> str:
        if number >= 100 and not begun:
            begun.append(now)
        return "503" if begun and now < begun[0] + OUTAGE else ""

    def refuses(number: int, now: float) -> str:
        return "400" if rng.random() < 0.3 else ""

    return {
        "30 % faults": judged(folder, "often", 25, often),
        "down for 5 minutes": judged(folder, "down", 25, down),
        "30 % refused": judged(folder, "refuses", 80, refuses),
    }


def report(results: dict[str, Any]) -> None:
    """A line or a table for each part."""
    for found in (results[part] for part in ("kills", "behind") if part in results):
        print(
            f"killed {sum(found['kills'].values())} times ({found['kills']}), {found['inside_a_write']} inside a write;"
        )
        print(f"{found['runs']} runs, differing from the undisturbed one: {found['differing'] or 'none'}")
    if found := results.get("damage"):
        print_table(("damage", "trials", "found"), [(kind, f["trials"], f["found"]) for kind, f in found.items()])
    if found := results.get("judge"):
        columns = ("exit_status", "rounds", "saved", "requests", "comparisons", "failed", "turned_into_a_preference")
        print_table(("judge", *columns), [(name, *(str(f[c]) for c in columns)) for name, f in found.items()])


def main() -> None:
    """Kill, damage, refuse, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("kills", "behind", "damage", "judge")
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts), help="the rest stays as it is stored")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--trials", type=int, default=300)
    arguments = parser.parse_args()
    results = stored("kill_and_train")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{folder}/programs"
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        prepare(folder)
        for part in arguments.only:
            measured = {
                "kills": lambda: measure_kills(folder, arguments.kills),
                "behind": lambda: measure_kills(folder, arguments.kills, behind=True),
                "damage": lambda: measure_damage(folder, arguments.trials),
                "judge": lambda: measure_judge(folder),
            }[part]()
            results |= {"environment": environment(), "seed": SEED, part: measured}
            report({part: measured})
            store("kill_and_train", results)


if __name__ == "__main__":
    main()
