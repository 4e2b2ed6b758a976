"""What a real model of 135 million weights takes on one processor core, beside version 0.1.0, PyTorch and the floor.

    python -m benchmarks.real_model.speed MODEL [--old FOLDER] [--torch PYTHON] [--only decode gradient round]

MODEL is a folder of SmolLM2-135M-Instruct, as `mpo import gguf` writes it. FOLDER is a checkout of version 0.1.0 (git
worktree add FOLDER 8910e38), PYTHON an interpreter that has torch and transformers; without them their columns are
empty. Each side is a process of its own on one core, and its numbers are processor seconds, the least of some repeats.

    decode      tokens drawn in a second, 16 rows: 34 new tokens less 2, so that prompts count for nothing
    gradient    log-probabilities of 8 x 128 tokens, with the gradient of all weights
    round       one round of MPO with LoRA: 4 prompts x 4 answers x 32 tokens, one optimizer step

The floor is arithmetic: numbers of operations at the rate of NumPy's largest product here, or bytes at the rate of
reading, whichever is longer. For the round it counts a prompt once for its group, logits of the answers alone, three
forward passes (policy, magnet, start) and one backward pass through frozen weights.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

PROMPTS = (
    "Explain why the sky is blue.",
    "Write a short poem about the sea.",
    "How do I make a good cup of tea?",
    "What are three uses of a paperclip?",
)
GROUP, NEW, WARM = 4, 32, 2
ROWS, LENGTH = 8, 128
PARTS = ("decode", "gradient", "round")
GOALS = {"decode beside torch": 1.3, "gradient beside torch": 0.9, "round beside 0.1.0": 1.6}


def least(call: Callable[[], Any], repeats: int) -> float:
    """Processor seconds of a call that has been made once before."""
    call()
    found = []
    for _ in range(repeats):
        begun = time.process_time()
        call()
        found.append(time.process_time() - begun)
    return min(found)


def ours(model: str, parts: list[str], repeats: int) -> dict[str, float]:
    """This package, of the version that the path has."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    import llm_bridge as bridge
    import mmd

    policy = bridge.load(model)
    words = bridge.Tokenizer(model)
    prompts = [tuple(words.prompt([{"role": "user", "content": text}])) for text in PROMPTS]
    found: dict[str, float] = {}
    if "decode" in parts:
        rows = [prompt for prompt in prompts for _ in range(GROUP)]

        def drawn(n: int) -> Any:
            return jax.block_until_ready(policy.generate(rows, key=jax.random.key(0), max_new_tokens=n, stop=()))

        found["prefill"] = least(lambda: drawn(WARM), repeats)
        found["decode"] = (least(lambda: drawn(WARM + NEW), repeats) - found["prefill"]) / NEW
    if "gradient" in parts:
        tokens = np.random.default_rng(0).integers(0, policy.architecture.vocabulary, (ROWS, LENGTH))
        gradient = nnx.jit(nnx.grad(lambda policy: -jnp.mean(policy.log_probs(tokens, tokens >= 0))))
        found["gradient"] = least(lambda: jax.block_until_ready(gradient(policy)), repeats)
    if "round" in parts:
        endless = bridge.Policy(policy.decoder, policy.arrays(), replace(policy.origin, stop_tokens=()))
        adapted = bridge.add_adapter(endless, jax.random.key(1), rank=8, alpha=16)
        sizes: Any = {"group_size": GROUP, "prompts_per_round": len(prompts), "max_new_tokens": NEW, "epochs": 1}
        method = bridge.MPO(shorter, learning_rate=1e-3, magnet=mmd.Refresh(every=8), **sizes)
        questions, states = method.read(adapted, prompts), [method.init(adapted, jax.random.key(2))]

        def played() -> None:
            state, _ = method.round(states.pop(), questions)
            states.append(jax.block_until_ready(state))

        found["round"] = least(played, repeats)
    return found


def shorter(prompts: Any, a: Any, b: Any) -> np.ndarray:
    """A judge of token ids, which costs nothing: the smaller sum wins more often."""
    return np.array([0.6 if sum(one) < sum(other) else 0.4 for one, other in zip(a, b, strict=True)])


def of_torch(model: str, parts: list[str], repeats: int) -> dict[str, float]:
    """Transformers on torch, the same rows."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    found: dict[str, float] = {}
    policy, words = (
        AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        AutoTokenizer.from_pretrained(model),
    )
    words.padding_side = "left"
    if "decode" in parts:
        chats = [[{"role": "user", "content": text}] for text in PROMPTS for _ in range(GROUP)]
        texts = words.apply_chat_template(chats, add_generation_prompt=True, tokenize=False)
        rows = words(texts, return_tensors="pt", padding=True, add_special_tokens=False)

        def drawn(n: int) -> None:
            with torch.no_grad():
                policy.generate(**rows, min_new_tokens=n, max_new_tokens=n, do_sample=True, top_k=0)

        found["prefill"] = least(lambda: drawn(WARM), repeats)
        found["decode"] = (least(lambda: drawn(WARM + NEW), repeats) - found["prefill"]) / NEW
    if "gradient" in parts:
        tokens = torch.from_numpy(np.random.default_rng(0).integers(0, policy.config.vocab_size, (ROWS, LENGTH)))

        def gradient() -> None:
            policy.zero_grad()
            logs = torch.log_softmax(policy(tokens).logits[:, :-1], -1)
            (-logs.gather(-1, tokens[:, 1:, None]).mean()).backward()

        found["gradient"] = least(gradient, repeats)
    return found


def floor(model: str, parts: list[str], repeats: int) -> dict[str, float]:
    """The least seconds that arithmetic or memory allows, by NumPy's own rates on this core."""
    config = json.loads((Path(model) / "config.json").read_text("utf-8"))
    a = np.random.default_rng(0).standard_normal((1536, 1536), np.float32)
    operations = 2 * 1536**3 / least(lambda: a @ a, 5 * repeats)
    table = np.ones(2**27, np.float32)
    reading = table.nbytes / least(lambda: table.sum(), 2 * repeats)
    width, inner, n_layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    kv = config["num_key_value_heads"] * config["head_dim"]
    body, head = n_layers * width * (2 * width + 2 * kv + 3 * inner), width * config["vocab_size"]
    found = {"operations a second": operations, "bytes read a second": reading}
    rows = len(PROMPTS) * GROUP
    step = max(4 * (body + head) / reading, 2 * rows * (body + head) / operations)
    found["decode"] = step
    found["gradient"] = 3 * 2 * ROWS * LENGTH * (body + head) / operations
    answers, prompts = rows * NEW, 40 * len(PROMPTS)
    passes = 4 * (answers + prompts) * body + 4 * answers * head  # three forward, one backward
    found["round"] = NEW * step + 2 * (prompts * body + passes) / operations
    return {name: value for name, value in found.items() if name in parts or "second" in name}


SIDES = {"new": ours, "0.1.0": ours, "torch": of_torch, "floor": floor}


def child(side: str, arguments: argparse.Namespace) -> dict[str, float]:
    """A side's numbers, from a process of its own on one core."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error"}
    root = Path(__file__).parents[2]
    environment["PYTHONPATH"] = str(Path(arguments.old).absolute() if side == "0.1.0" else root)
    python = arguments.torch if side == "torch" else sys.executable
    words = [str(Path(__file__)), arguments.model, "--child", side, "--repeats", str(arguments.repeats)]
    # -P: the folder of this file is not searched for modules
    done = subprocess.run(
        [python, "-P", *words, "--only", *arguments.only], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{side}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def compared(found: dict[str, dict[str, float]]) -> dict[str, float]:
    """Ratios above 1 where this version is faster."""
    ratios = {}
    for side in ("0.1.0", "torch", "floor"):
        both = found.get(side, {}).keys() & found["new"].keys()
        ratios |= {f"{part} beside {side}": found[side][part] / found["new"][part] for part in sorted(both)}
    return ratios


def main() -> None:
    """Measure every side there is, print and store."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--old")
    parser.add_argument("--torch")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", choices=SIDES)
    arguments = parser.parse_args()
    if arguments.child:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # before any library counts the cores
        print(json.dumps(SIDES[arguments.child](arguments.model, arguments.only, arguments.repeats)))
        return
    from benchmarks import report

    sides = [side for side in SIDES if {"0.1.0": arguments.old, "torch": arguments.torch}.get(side, True)]
    found = {side: child(side, arguments) for side in sides}
    ratios = compared(found)
    rows = [[part, *(f"{found[side][part]:.3f}" if part in found[side] else "" for side in sides)] for part in PARTS]
    report.print_table(["processor seconds", *sides], rows)
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f}x" + (f" (wanted: {GOALS[name]})" if name in GOALS else ""))
    numbers = {"seconds": found, "ratios": ratios, "wanted": GOALS, "repeats": arguments.repeats}
    report.store("real_model_speed", numbers | report.environment())


if __name__ == "__main__":
    main()
