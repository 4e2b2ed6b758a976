"""The model card of what a run exports: what is known of the run, and nothing else; and how the folder is loaded."""

import json
import re
from collections.abc import Iterator
from typing import Any

from llm_bridge.command.options import Train
from llm_bridge.command.training_run import HELD_OUT, LIBRARIES
from llm_bridge.measure.win_rate import newest_win_rate
from llm_bridge.policy.policy import Policy
from llm_bridge.run import training_log
from llm_bridge.run.samples import when
from llm_bridge.train.loop import Method
from llm_bridge.train.mpo import MPO
from mmd.host import environment

NAMES = {
    "mpo": "Magnetic Preference Optimization (MPO; Wang et al., ICLR 2025)",
    "sft": "supervised fine-tuning on given answers",
}
LOAD = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("FOLDER")
tokenizer = AutoTokenizer.from_pretrained("FOLDER")
```"""
LOAD_ADAPTER = """```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = AutoModelForCausalLM.from_pretrained(BASE)
model = PeftModel.from_pretrained(base, "FOLDER")
tokenizer = AutoTokenizer.from_pretrained("FOLDER")
```"""


def text(options: Train, method: Method, policy: Policy, rounds: int, **of: bool) -> str:
    """The card.

    Args:
        options: of the run, with the numbers that were not given.
        method: of the run.
        policy: what is exported.
        rounds: after so many.
        of: `merged`, whether the adapter is added to its base; `measured`, False where the run's win rate is not one of
            these weights.
    """
    adapted, base = policy.is_adapted and not of.get("merged"), base_of(policy, options)
    kind = "adapter" if adapted else "finetune"
    head = ["---", f"base_model: {json.dumps(base)}", f"library_name: {'peft' if adapted else 'transformers'}"]
    head += ["pipeline_tag: text-generation", "tags:", f"- {json.dumps(f'base_model:{kind}:{base}')}"]
    head += [*(["- lora"] if adapted else []), "- preference-optimization", "---", ""]
    title = f"# {base}, trained by {options.method}"
    facts = [
        *_facts(options, method, policy),
        *([("merged", "the adapter is added to its base")] * of.get("merged", 0)),
    ]
    facts += [("rounds", f"{rounds} of {options.max_steps}")]
    facts.append(("win rate", _win_rate(options, rounds) if of.get("measured", True) else "not measured"))
    versions = environment.versions(("magnetic-mirror", *LIBRARIES))
    facts.append(("made with", ", ".join(f"{name} {versions[name]}" for name in versions if versions[name])))
    rows = [f"| {name} | {_cell(value)} |" for name, value in facts]
    load = LOAD_ADAPTER.replace("BASE", json.dumps(base)) if adapted else LOAD
    return "\n".join([*head, title, "", "| | |", "| --- | --- |", *rows, "", "## Load", "", load, ""])


def base_of(policy: Policy, options: Train) -> str:
    """The base model by name: its id on the Hugging Face hub where it comes from there, or its folder."""
    folder = policy.origin.folder or options.model_name_or_path
    cached = re.search(r"models--(.+?)--(.+?)[/\\]snapshots[/\\]", folder)
    return "/".join(cached.groups()) if cached else folder


def _facts(options: Train, method: Method, policy: Policy) -> Iterator[tuple[str, str]]:
    """What the run was told."""
    yield "base model", base_of(policy, options)
    if policy.origin.folder and options.model_name_or_path != policy.origin.folder and policy.is_adapted:
        yield "begun from", options.model_name_or_path
    yield "method", NAMES.get(options.method, options.method)
    yield "trained", _trained(policy)
    if isinstance(method, MPO):
        yield (
            "magnet",
            f"{options.magnet or method.magnet}; exported is the "
            + ("magnet" if method.exports_magnet else "last iterate"),
        )
    numbers = {"eta": method.eta, "alpha": method.alpha}
    used = [f"{name} {value:.4g}" for name, value in numbers.items() if name not in method.unused]
    used += [f"learning rate {method.learning_rate:.4g}", options.lr_scheduler_type]
    used += [f"temperature {options.temperature:g}, a part of the policy"] if options.temperature != 1 else []
    used += [f"{options.warmup_steps} rounds of warm-up"] if options.warmup_steps else []
    used += [f"weight decay {options.weight_decay:g}"] if options.weight_decay else []
    again = [f"answers of {n} earlier rounds used again"] if (n := method.rounds_at_once - 1) else []
    yield "numbers", ", ".join([*used, f"{method.epochs} optimizer steps a round", *again, f"seed {options.seed}"])
    answers = f" x {method.group_size} answers of at most {method.max_new_tokens} tokens" * (method.group_size > 1)
    yield "a round", f"{method.prompts_per_round} prompts{answers}"
    yield "data", str(options.dataset_name)
    if options.judge:
        yield "judge", _judge(options)


def _judge(options: Train) -> str:
    """The judge, or the members of a population with their weights."""
    named = " ".join((*options.judge, *options.judge_model))
    if options.judge_weights:
        named += f", weights {' '.join(f'{weight:g}' for weight in options.judge_weights)}"
    return f"{named}, {options.judge_aggregation}" if options.judge_aggregation else named


def _trained(policy: Policy) -> str:
    arrays = policy.arrays()
    pairs = {name.split(".")[1]: array for name, array in arrays.items() if name.endswith(".lora_a")}
    if not pairs:
        return f"all {sum(array.size for array in arrays.values()):,} weights"
    rank = next(iter(pairs.values())).shape[-1]
    return f"a LoRA adapter of rank {rank} on {', '.join(pairs)}, alpha {policy.decoder.adapter_scale * rank:g}"


def _win_rate(options: Train, rounds: int) -> str:
    """The newest one up to these rounds, as it stands in `metrics.jsonl`."""
    path = options.output_dir / training_log.FILE
    rows: list[dict[str, Any]] = training_log.rows(path)
    measured = [row for row in rows if row.get("eval/win_rate") is not None and 0 < row["round"] <= rounds]
    if not measured:
        return "not measured"
    found = newest_win_rate(measured)
    rate, low, high = (100 * found[f"win_rate{side}"] for side in ("", "_low", "_high"))
    where = str(options.eval_dataset_name or f"held-out prompts of the data ({HELD_OUT} of the run)")
    said = f"{rate:.1f} % [{low:.1f}, {high:.1f}] {when(int(measured[-1]['round']))}, 95 % interval over prompts"
    return f"{said}, against the model that the run began with, by the judge above, on {where}"


def _cell(value: str) -> str:
    return " ".join(value.replace("|", "\\|").split())
