"""The memory that `mpo train` says it needs before it begins, beside the peak that the process reaches.

    python -m benchmarks.device.training_memory [--only CASE ...] [--real FOLDER] [--said]

Llamas of 0.1 to 23 million parameters are trained for two rounds, whole and with an adapter, in float32 and bfloat16,
with layers recomputed and with accumulated gradients, one process at a time. A real model, a folder as Hugging Face
writes it, is trained in two ways besides, where one is named (stored: SmolLM2-135M-Instruct).

The peak is VmHWM, the most of a process's memory that was resident at once, as Linux counts it. It is read and reset
whenever the judge is asked, so it is known whether the peak was before the first update (loading, generation) or in
the updates. Programs are compiled, not found in a cache: compiling is part of what a first run needs. With `--said`
the stored peaks are kept, and each run ends when it has said what it needs.

Results: benchmarks/results/training_memory.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import RESULTS, environment, print_table, store

CONFIG = {"model_type": "llama", "max_position_embeddings": 1024, "tie_word_embeddings": True}
SIZES = {
    # width, layers, tokens in the vocabulary
    "small": (64, 2, 1000),
    "middling": (256, 4, 8000),
    "wide": (384, 8, 16000),
    "deep": (128, 20, 4000),
    "many words": (192, 4, 49152),
}
# prompts a round and new tokens, with 4 answers to each prompt, and what else is typed.
CASES: dict[str, tuple[str, int, int, dict[str, Any]]] = {
    "small": ("small", 4, 16, {}),
    "middling": ("middling", 4, 64, {}),
    "middling, bfloat16": ("middling", 4, 64, {"dtype": "bfloat16"}),
    "middling, layers recomputed": ("middling", 4, 64, {"gradient_checkpointing": True}),
    "middling, adapter": ("middling", 4, 64, {"lora_r": 8}),
    "middling, adapter, bfloat16": ("middling", 4, 64, {"lora_r": 8, "dtype": "bfloat16"}),
    "middling, long answers": ("middling", 4, 192, {}),
    "wide": ("wide", 4, 64, {}),
    "wide, gradients accumulated": ("wide", 4, 64, {"gradient_accumulation_steps": 4}),
    "wide, adapter": ("wide", 4, 64, {"lora_r": 8}),
    "deep": ("deep", 4, 48, {}),
    "many words": ("many words", 4, 32, {}),
    "many words, bfloat16": ("many words", 4, 32, {"dtype": "bfloat16"}),
    "many words, adapter": ("many words", 2, 32, {"lora_r": 8}),
    "many words, adapter, bfloat16": ("many words", 2, 32, {"lora_r": 8, "dtype": "bfloat16"}),
}
REAL: dict[str, tuple[str, int, int, dict[str, Any]]] = {
    "real model, adapter": ("real", 4, 32, {"lora_r": 8}),
    "real model, adapter, gradients accumulated": ("real", 4, 64, {"lora_r": 8, "gradient_accumulation_steps": 2}),
}
SAID = "memory on"
PEAKS = "BENCHMARK_PEAKS"  # the file to which the child's judge writes


def peak() -> int:
    """Bytes of memory that were resident at once since the last call; Linux."""
    with open("/proc/self/status", encoding="ascii") as file:
        found = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    with suppress(PermissionError):  # then the peak is that since the beginning, of which the largest is the same
        Path("/proc/self/clear_refs").write_text("5")
    return found


def shorter(prompts: Any, a: Any, b: Any) -> np.ndarray:
    """A judge: the shorter answer; it notes the peak so far."""
    with open(os.environ[PEAKS], "a", encoding="ascii") as file:
        file.write(f"{peak()}\n")
    return 1 / (1 + np.exp(np.array([len(x) - len(y) for x, y in zip(a, b, strict=True)]) / 10.0))


def child(words: list[str]) -> None:
    """Train, and note the peak of the rest."""
    from llm_bridge.command.cli import main

    status = main(words)
    with open(os.environ[PEAKS], "a", encoding="ascii") as file:
        file.write(f"{peak()}\n")
    sys.exit(status)


def prepare(folder: Path, size: str) -> Path:
    """A model with a tokenizer of whole words, and prompts of 16 tokens beside it."""
    prompts = (" ".join(f"w{(i * j) % 100}" for j in range(16)) for i in range(8))
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    if size == "real":
        return folder / size
    import jax
    import tokenizers
    from tokenizers import models, pre_tokenizers

    import llm_bridge as bridge

    width, n_layers, vocabulary = SIZES[size]
    shape = {"hidden_size": width, "intermediate_size": -(-8 * width // 3 // 16) * 16, "num_hidden_layers": n_layers}
    heads = {"num_attention_heads": width // 32, "num_key_value_heads": width // 64, "vocab_size": vocabulary}
    path = folder / size.replace(" ", "-")
    bridge.save(bridge.init(CONFIG | shape | heads, jax.random.key(0)), path)
    known = {word: i for i, word in enumerate(["<pad>", "</s>", *(f"w{i}" for i in range(vocabulary - 2))])}
    words = tokenizers.Tokenizer(models.WordLevel(known, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.save(str(path / "tokenizer.json"))
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "pad_token": "<pad>"}
    (path / "tokenizer_config.json").write_text(json.dumps(names))
    return path


def command(folder: Path, name: str) -> tuple[list[str], dict[str, str]]:
    """One way to train: the command of a process of its own, and its environment."""
    size, n_prompts, n_new, more = (CASES | REAL)[name]
    typed = {"model_name_or_path": folder / size.replace(" ", "-"), "dataset_name": folder / "prompts.jsonl"}
    typed |= {
        "output_dir": folder / f"run {name}",
        "judge": "benchmarks.device.training_memory:shorter",
        "max_steps": 2,
    }
    typed |= {"num_generations": 4, "prompts_per_round": n_prompts, "max_new_tokens": n_new, "num_iterations": 1}
    typed |= more
    words = ["train"]
    for option, value in typed.items():
        words += [f"--{option}"] if value is True else [f"--{option}", str(value)]
    own = {PEAKS: str(folder / f"peaks {name}"), "JAX_COMPILATION_CACHE_DIR": "", "JAX_PLATFORMS": "cpu"}
    return [sys.executable, "-m", "benchmarks.device.training_memory", "--child", *words], os.environ | own


def prediction(line: str) -> dict[str, Any]:
    """What the line says that the run prints before its first round."""
    parts = line.partition("(")[2].partition(")")[0].split(", ")
    return {
        "predicted_bytes": round(float(line.partition("GiB: ")[2].split()[0]) * 2**30),
        "parts_gib": {part.rpartition(" ")[0]: float(part.rpartition(" ")[2]) for part in parts},
    }


def measure(folder: Path, name: str) -> dict[str, Any]:
    """One way to train, in a process of its own."""
    words, environment = command(folder, name)
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr}")
    begun, *rounds, end = [int(line) for line in Path(environment[PEAKS]).read_text().split()]
    found = prediction(next(line for line in done.stdout.splitlines() if line.startswith(SAID)))
    found |= {"before_the_first_update": begun, "between_judges": rounds, "after": end}
    return compared(found | {"measured_bytes": max(begun, *rounds, end)})


def said(folder: Path, name: str, stored: dict[str, Any]) -> dict[str, Any]:
    """The stored peak beside what a run of today says before it begins."""
    words, environment = command(folder, name)
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    with process, process.stdout as lines:
        found = prediction(next(line for line in lines if line.startswith(SAID)))
        process.kill()
    return compared(stored | found)


def compared(found: dict[str, Any]) -> dict[str, Any]:
    """With the ratio of what was said and what was needed."""
    return found | {"predicted_over_measured": found["predicted_bytes"] / found["measured_bytes"]}


def main() -> None:
    """Train, compare, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES | REAL, help="the rest stays as it is stored")
    parser.add_argument("--real", type=Path, metavar="FOLDER", help="a real model, trained as well")
    parser.add_argument("--said", action="store_true", help="keep the stored peaks: only what runs say is new")
    parser.add_argument("--child", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child)
    stored = RESULTS / "training_memory.json"
    wanted = arguments.only or [*CASES, *(REAL if arguments.real else ())]
    if not arguments.real and (real := [name for name in wanted if name in REAL]):
        parser.error(f"{real[0]!r} is a way to train a real model: name its folder with --real")
    kept = json.loads(stored.read_text())["results"] if stored.exists() else {}
    results = {name: found for name, found in kept.items() if name not in wanted}
    with tempfile.TemporaryDirectory() as text:
        if arguments.real:
            (Path(text) / "real").symlink_to(arguments.real.absolute())
        for size in dict.fromkeys((CASES | REAL)[name][0] for name in wanted):
            prepare(Path(text), size)
        for name in wanted:
            results[name] = said(Path(text), name, kept[name]) if arguments.said else measure(Path(text), name)
            print(name, results[name], flush=True)
            store("training_memory", {"environment": environment(), "results": results})
    print_table(
        ("training", "predicted MiB", "peak MiB", "predicted / peak"),
        [
            (
                name,
                *(f"{found[part] / 2**20:.0f}" for part in ("predicted_bytes", "measured_bytes")),
                f"{found['predicted_over_measured']:.3f}",
            )
            for name, found in results.items()
        ],
    )


if __name__ == "__main__":
    main()
