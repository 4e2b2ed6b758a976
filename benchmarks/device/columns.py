"""Real columns of long-tailed answers, steps of drawing, and programs of a run: 100 rounds, counted without a model.

    python -m benchmarks.device.columns

Answers have lengths of a log-normal distribution, median 200, sigma 0.8, at most 2,048, 256 of them a round, 8 to a
prompt; prompts have a median of 150, sigma 0.6, at most 1,024. Columns are those that go through the layers: a prompt's
once for its group, and an answer's. "Before" is version 0.1: a whole round in rows as long as its longest, in steps of
1, 2, 3, 4, 6, 8, 12 and so on.

Slots are the rows whose cache fits beside what a round holds on a slice, by the model without a compiler. All rows are
drawn at once, and the loop ends with the longest of them, so more steps than that are made only where they do not fit.

Results: benchmarks/results/columns.json.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.device.tpu_mpo import COMMON, MODELS
from benchmarks.report import environment, print_table, store
from llm_bridge.checkpoint.loading import architecture_of
from llm_bridge.plan.estimate import held
from llm_bridge.plan.hardware import topology
from llm_bridge.plan.work import Axes, Work
from llm_bridge.policy.generate import bucket
from llm_bridge.train import packing, rollout

ROUNDS, PROMPTS, GROUP, LONGEST, LONGEST_PROMPT = 100, 32, 8, 2048, 1024
SHARES = ((1, False), (4, False), (4, True), (8, False), (8, True))
SLICE, AXES = "v5e:4x4", Axes(1, 4, 4)


def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Lengths of prompts [rounds, N], and of answers [rounds, N, G]."""
    rng = np.random.default_rng(8)
    prompts = rng.lognormal(np.log(150), 0.6, (ROUNDS, PROMPTS)).astype(int)
    answers = rng.lognormal(np.log(200), 0.8, (ROUNDS, PROMPTS, GROUP)).astype(int)
    return np.clip(prompts, 1, LONGEST_PROMPT), np.clip(answers, 1, LONGEST)


def counted(prompts: np.ndarray, answers: np.ndarray, n_shares: int, gathers: bool) -> dict[str, Any]:
    """Of sorted rows, on so many shares, which have all weights (axis data) or gather them (fsdp)."""
    longest = prompts.max(axis=1)
    widths = rollout.widths(int(longest.max()), longest.tolist(), rollout.PROGRAMS)
    shapes = packing.shapes_of(answers[0].size // n_shares, LONGEST, gathers)
    of_prompts = sum(PROMPTS * next(width for width in widths if width >= n) for n in longest)
    of_answers = n_tiles = 0
    for lengths in answers:
        lengths = lengths[packing.dealt(lengths, n_shares, shapes)]
        by_share = -np.sort(-lengths.reshape(n_shares, -1), axis=1)
        tiles = packing.cut(by_share.max(axis=0), shapes)
        n_tiles += len(tiles)
        of_answers += n_shares * sum(int(np.prod(shapes[kind])) for _, kind in tiles)
    return {
        "shares": n_shares,
        "axis": "fsdp" if gathers else "data",
        "widths of prompts": widths,
        "shapes": shapes,
        "tiles a round": n_tiles / ROUNDS,
        "real of answers": answers.sum() / of_answers,
        "real": (answers.sum() + prompts.sum()) / (of_answers + of_prompts),
        "generate programs": len(widths),
        "update programs": len(widths),
    }


def before(prompts: np.ndarray, answers: np.ndarray) -> dict[str, Any]:
    """Of rows as they come, in steps of buckets."""
    longest = [bucket(int(n), 1) for n in prompts.max(axis=1)]
    columns = [bucket(int(lengths.max()), 1) for lengths in answers]
    computed = PROMPTS * sum(longest) + answers[0].size * sum(columns)
    return {
        "real of answers": answers.sum() / (answers[0].size * sum(columns)),
        "real": (answers.sum() + prompts.sum()) / computed,
        "generate programs": len({bucket(int(n)) for n in prompts.max(axis=1)}),
        "update programs": len(set(zip(longest, columns, strict=True))),
    }


def slots() -> int:
    """Rows of prompts and answers whose cache fits, of an adapter on 8B."""
    a, chip = architecture_of(MODELS["qwen3_8b"] | COMMON, "8B"), topology(SLICE).chip
    work = Work(prompts=PROMPTS, group=GROUP, prompt_length=LONGEST_PROMPT, new_tokens=LONGEST, rank=16)
    fitting = 0
    for n in range(1, 257):
        needed = held(a, AXES, replace(work, prompts=n))
        if sum(needed.state.values()) + sum(needed.drawing.values()) <= chip.memory:
            fitting = n * GROUP
    return fitting


def main() -> None:
    """Count, print, store."""
    prompts, answers = drawn()
    fitting, n_rows = slots(), answers[0].size
    longest, tokens = answers.max(axis=(1, 2)), answers.sum(axis=(1, 2))
    steps = longest * -(-n_rows // fitting)
    bound = np.maximum(longest, tokens / min(fitting, n_rows))
    results = {
        "before": before(prompts, answers),
        "sorted": [counted(prompts, answers, *shares) for shares in SHARES],
        "drawing": {
            "slots": fitting,
            "rows": n_rows,
            "steps over the bound, most": float((steps / bound).max()),
            "real slots": float(tokens.sum() / (n_rows * longest.sum())),
        },
    }
    rows = [
        ("before", results["before"]),
        *((f"sorted, {found['axis']}={found['shares']}", found) for found in results["sorted"]),
    ]
    names = ("real of answers", "real", "generate programs", "update programs")
    print_table(
        ("", *names),
        [(name, *(f"{found[key]:.2f}" if "real" in key else str(found[key]) for key in names)) for name, found in rows],
    )
    print(results["drawing"])
    store("columns", {"environment": environment(), "rounds": ROUNDS, "results": results})


if __name__ == "__main__":
    main()
