"""A training step of MPO on one processor core, beside trainers of TRL in the same run.

    make peers && python -m benchmarks.peers.beside_trl [--turns 3]

A Llama of 551,552 parameters with random weights answers 8 prompts of 16 tokens twice with 32 tokens, the answers are
judged, and one optimizer step is made, in float32. All programs read the same checkpoint, tokenizer and prompts, use
one thread, and are pinned to one core, in turn. No answer ends early: the tokenizer's end of sequence lies outside the
model's vocabulary. A Python function of the text judges for us and for TRL's Online DPO; TRL's Nash-MD takes only a
reward model, here one of the policy's size, so it does more work. The median of the steps after the first four counts,
by the wall clock and by the processor's seconds.

Beside the times stand copies of the weights and passes through models, counted and not derived: for each token of the
16 rows, prompts included. Memory is the process's peak, the interpreter included. A
program of JAX is compiled in the first turn only; like the `mpo` command, later turns find it in a folder. What that
saves, in time and in the compiler's own memory, is the difference between the first turn and the last. MPO also runs
with two gradients of half of the rows, added up before its step (`--gradient-accumulation-steps 2`): their memory stays
below the 32 MiB that the system takes back after each call and hands out again page by page.

The floor is the time of MPO's matrix products at the rate of a large product, from the passes that were counted.
Results: benchmarks/results/trl.json.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.device.policies import MODELS, ONE_THREAD, floor, pinned
from benchmarks.peers.protocol import PEERS
from benchmarks.report import environment, print_table, store

WORK: dict[str, Any] = {
    "prompts_per_round": 8,
    "prompt_length": 16,
    "max_new_tokens": 32,
    "learning_rate": 5e-7,
    "warm_up": 4,
    "steps": 32,
}
VOCABULARY = 1000
CONFIG = MODELS["small"] | {"intermediate_size": 256, "tie_word_embeddings": False}
THEIRS = {"TRL Nash-MD": ("trl113", "nash_md"), "TRL Online DPO": ("trl116", "online_dpo")}
HALVES = "MPO, half of the rows at a time"
OURS = ("MPO", HALVES, "MPO, start watched", "Nash-MD", "online IPO")
KEPT = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2"}  # as `mpo` has it
PASSES_OF_MPO = {"generating": 47 / 48, "scored": 2.0, "backward": 1.0}  # where they are not counted again
BARS = {"TRL Nash-MD": 2.0, "TRL Online DPO": 1.5}


def distinct(prompt: str, a: str, b: str) -> float:
    """A preference for the larger share of distinct words, as cheap as the reward that TRL gets."""
    ours, theirs = (len(set(words)) / len(words) for words in (a.split(), b.split()))
    return 1 / (1 + np.exp(theirs - ours))


def checkpoint(folder: Path) -> None:
    """The model, and a tokenizer of words whose end of sequence the model cannot say."""
    import jax
    import tokenizers
    from tokenizers import models, pre_tokenizers

    import llm_bridge as bridge

    bridge.save(bridge.init(CONFIG, jax.random.key(0)), folder)
    vocabulary = {f"w{i}": i for i in range(VOCABULARY)} | {"</s>": VOCABULARY}
    words = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.save(str(folder / "tokenizer.json"))
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "pad_token": "w0"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))


def prompts() -> list[str]:
    """More than are used, each of the same number of words."""
    rng = np.random.default_rng(0)
    n = WORK["prompts_per_round"] * (WORK["warm_up"] + WORK["steps"] + 4)
    return [" ".join(f"w{i}" for i in row) for row in rng.integers(3, VOCABULARY, (n, WORK["prompt_length"]))]


def method_of(name: str) -> Any:
    """One of ours, at the sizes of TRL's."""
    import llm_bridge as bridge
    from llm_bridge.train.baselines.nash_md import NashMD
    from llm_bridge.train.baselines.online_ipo import OnlineIPO

    kind = {"Nash-MD": NashMD, "online IPO": OnlineIPO}.get(name, bridge.MPO)
    at_a_time = WORK["prompts_per_round"] // 2 if name == HALVES else None
    return kind(**numbers(), watch_start=name.endswith("watched"), prompts_at_a_time=at_a_time)


def numbers() -> dict[str, Any]:
    """What all of ours have in common."""
    from llm_bridge.judges.callable import PairFunction

    sizes = {name: WORK[name] for name in ("prompts_per_round", "max_new_tokens", "learning_rate")}
    return {"judge": PairFunction(distinct), "group_size": 2, "epochs": 1, "max_grad_norm": 1.0} | sizes


def train(name: str, folder: str, again: bool) -> dict[str, Any]:
    """One of ours, in a process of its own, pinned before JAX starts."""
    import jax

    import llm_bridge as bridge
    from benchmarks.peers import passes
    from llm_bridge.model.compute import Compute

    policy = bridge.load(folder, compute=Compute(remat="none"))
    work = json.loads(Path(folder, "work.json").read_text())
    if name == "passes":
        return passes.of_all(numbers(), policy, work["prompts"][: work["prompts_per_round"]])
    wall, processor = [time.perf_counter()], [time.process_time()]

    def tick(*_: Any) -> None:
        wall.append(time.perf_counter())
        processor.append(time.process_time())

    method, steps = method_of(name), work["warm_up"] + work["steps"]
    method.fit(policy, work["prompts"], steps=steps, key=jax.random.key(0), callback=tick)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found = {"wall": np.diff(wall).tolist(), "processor": np.diff(processor).tolist(), "peak_bytes": peak}
    return found if again else found | {"split": split(method, policy, work), "floor": floor()}


def split(method: Any, policy: Any, work: dict[str, Any]) -> dict[str, float]:
    """Processor seconds of a round by what they go to; the median of some rounds."""
    import jax

    from llm_bridge.train.loop import Method
    from llm_bridge.train.rollout import Rollout

    spent: dict[str, list[float]] = {"generate": [], "judge": [], "update": []}

    def timed(kind: str, function: Any) -> Any:
        def run(*arguments: Any, **named: Any) -> Any:
            begun = time.process_time()
            found = jax.block_until_ready(function(*arguments, **named))
            spent[kind].append(time.process_time() - begun)
            return found

        return run

    with (
        mock.patch.object(Rollout, "draw", timed("generate", Rollout.draw)),
        mock.patch.object(Rollout, "compare", timed("judge", Rollout.compare)),
        mock.patch.object(Method, "learn", timed("update", Method.learn)),
    ):
        method.fit(policy, work["prompts"], steps=work["steps"] // 2, key=jax.random.key(1))
    n_rounds = work["steps"] // 2
    rounds = {kind: np.reshape(seconds, (n_rounds, -1)).sum(axis=1) for kind, seconds in spent.items()}
    return {kind: float(np.median(seconds)) for kind, seconds in rounds.items()}


def median(found: dict[str, Any], what: str, warm_up: int) -> float:
    """Of the steps after the first few, all turns together."""
    return float(np.median([seconds for turn in found["turns"] for seconds in turn[what][warm_up:]]))


def measure(turns: int, names: list[str], environments: dict[str, str], folder: str) -> dict[str, Any]:
    """Every program, in turn."""
    ours = [sys.executable, "-m", "benchmarks.peers.beside_trl", "--folder", folder, "--worker"]
    theirs = str(Path(__file__).parents[1] / "peers" / "run_trl.py")
    commands = {name: [*ours, name] for name in names}
    work = str(Path(folder, "work.json"))
    commands |= {name: [environments[place], theirs, kind, folder, work] for name, (place, kind) in THEIRS.items()}
    found: dict[str, Any] = {name: {"turns": []} for name in commands}
    for turn in range(turns):
        for name, command in commands.items():
            command = [*command, "--again"] if turn and name in OURS else command
            kept = KEPT | {"JAX_COMPILATION_CACHE_DIR": f"{folder}/programs/{name}"}
            found[name]["turns"].append(pinned(command, kept))
            print(f"{name}: {np.median(found[name]['turns'][-1]['processor'][WORK['warm_up'] :]):.4f} s", flush=True)
    for turned in found.values():
        one = turned["turns"][0]
        turned |= {name: one[name] for name in ("passes", "split", "versions") if name in one}
        turned["seconds"] = median(turned, "wall", WORK["warm_up"])
        turned["processor_seconds"] = median(turned, "processor", WORK["warm_up"])
        turned["first_step_seconds"] = [turn["wall"][0] for turn in turned["turns"]]
        turned["peak_bytes"] = [turn["peak_bytes"] for turn in turned["turns"]]
    return found


def floor_of_mpo(found: dict[str, Any], n_parameters: int) -> dict[str, float]:
    """Seconds that the products of MPO's passes take at the rate of a large one."""
    passes, rate = found["passes"] or PASSES_OF_MPO, found["turns"][0]["floor"]["operations_per_second"]
    rows = 2 * WORK["prompts_per_round"] * (WORK["prompt_length"] + WORK["max_new_tokens"])
    forward = 2 * (n_parameters - VOCABULARY * CONFIG["hidden_size"]) * rows / rate  # the embedding is no product
    return {
        "operations_per_second": rate,
        "generating": passes["generating"] * forward,
        "update": (passes["scored"] + 2 * passes["backward"]) * forward,
    }


def report(results: dict[str, Any]) -> None:
    """A row for each method, and what the bars say."""
    rows = []
    for name, found in results["methods"].items():
        passes = found["passes"]
        rows.append(
            (
                name,
                f"{1e3 * found['seconds']:.1f}",
                f"{1e3 * found['processor_seconds']:.1f}",
                *(f"{found['seconds_over'][theirs]:.2f}" if name in OURS else "" for theirs in THEIRS),
                *(f"{found['first_step_seconds'][turn]:.1f}" for turn in (0, -1)),
                *(f"{found['peak_bytes'][turn] / 2**20:.0f}" for turn in (0, -1)),
                f"{passes.get('copies', np.nan):.2f}",
                *(f"{passes.get(kind, np.nan):.2f}" for kind in ("generating", "judge", "scored", "backward")),
            )
        )
    faster = [f"{name} /" for name in THEIRS]
    kinds = ("copies", "generating", "judge", "scored", "backward")
    once = ("first step s", "again", "peak MiB", "again")
    print_table(("method", "ms a step", "processor ms", *faster, *once, *kinds), rows)
    spent = ", ".join(f"{1e3 * s:.1f} {kind}" for kind, s in results["methods"]["MPO"]["split"].items())
    print(f"MPO's processor ms: {spent}")
    if results["passes"]:
        print_table(
            ("passes of ours, all methods", *kinds),
            [(name, *(f"{found[kind]:.2f}" for kind in kinds)) for name, found in results["passes"].items()],
        )
    bottom = results["floor"]
    print(f"floor of MPO: {1e3 * (bottom['generating'] + bottom['update']):.1f} ms a step,", end=" ")
    print(f"{1e3 * bottom['generating']:.1f} to generate and {1e3 * bottom['update']:.1f} to learn")


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3, help="the first compiles, so take at least 2")
    for place, _ in THEIRS.values():
        parser.add_argument(f"--{place}", default=str(PEERS / place / "bin" / "python"), help="a Python with that TRL")
    parser.add_argument("--ours", nargs="+", choices=OURS, default=list(OURS), help="which of ours are timed")
    parser.add_argument("--no-passes", dest="passes", action="store_false", help="count no passes of ours")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--again", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(train(arguments.worker, arguments.folder, arguments.again)))
        return
    from llm_bridge.checkpoint.loading import architecture_of
    from llm_bridge.model.weights import count

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "model")
        checkpoint(folder)
        (folder / "work.json").write_text(json.dumps(WORK | {"prompts": prompts()}))
        places = {place: getattr(arguments, place) for place, _ in THEIRS.values()}
        worker = [sys.executable, "-m", "benchmarks.peers.beside_trl", "--folder", str(folder), "--worker", "passes"]
        quick = {"XLA_FLAGS": f"{ONE_THREAD} --xla_backend_optimization_level=0"}
        counted = pinned(worker, quick) if arguments.passes else {}
        found = measure(arguments.turns, arguments.ours, places, str(folder))
    for ours in arguments.ours:
        found[ours]["passes"] = counted.get("MPO" if ours == HALVES else ours, {})
        ratios = {name: found[name]["processor_seconds"] / found[ours]["processor_seconds"] for name in THEIRS}
        found[ours]["processor_seconds_over"] = ratios
        found[ours]["seconds_over"] = {name: found[name]["seconds"] / found[ours]["seconds"] for name in THEIRS}
    n_parameters = count(architecture_of(CONFIG, "the model"))
    floor_of = floor_of_mpo(found["MPO"], n_parameters)
    results = {"methods": found, "passes": counted, "floor": floor_of, "parameters": n_parameters}
    report(results)
    store("trl", {"environment": environment(), "work": WORK, "bars": BARS, **results})


if __name__ == "__main__":
    main()
