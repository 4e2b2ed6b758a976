"""A trainer of TRL on a checkpoint, one thread: seconds of each step, passes through its models, peak memory.

    PYTHON run_trl.py {nash_md,online_dpo} FOLDER WORKLOAD.json         prints JSON

Nothing of this repository is needed, so it runs in an environment of its own. The workload is described in
`benchmarks/peers/beside_trl.py`. Passes are counted in two steps after the timed ones.
"""

import json
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

os.environ |= {"TRL_EXPERIMENTAL_SILENCE": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

import torch
from datasets import Dataset, disable_progress_bars
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationMixin,
    TrainerCallback,
)
from transformers.utils import logging

COUNTED = 2  # steps


def reward(completions, **_):
    """The workload's judge, as a scalar: the share of distinct words."""
    return [len(set(words)) / len(words) for words in map(str.split, completions)]


class Clock(TrainerCallback):
    """The time at the end of each step; passes are counted after the timed ones."""

    def __init__(self, timed, models):
        self.timed, self.models = timed, models
        self.wall, self.processor, self.tokens, self.peak = [], [], Counter(), 0

    def on_train_begin(self, *_, **__):
        """The time before the first step."""
        self.on_step_end()

    def on_step_end(self, *_, **__):
        """The time, and the memory before the counting begins."""
        self.wall.append(time.perf_counter())
        self.processor.append(time.process_time())
        if len(self.wall) == self.timed + 1:
            self.peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            count(self.models, self.tokens)


def count(models, tokens):
    """From now on, count tokens that go through the models: generated from, judged, scored, differentiated."""
    inside = [False]
    generate = GenerationMixin.generate

    def generating(*arguments, **named):
        inside[0] = True
        try:
            return generate(*arguments, **named)
        finally:
            inside[0] = False

    GenerationMixin.generate = generating

    def hook(name):
        def seen(_, arguments, named, output):
            ids = named["input_ids"] if "input_ids" in named else arguments[0]
            n = ids.numel()
            tokens["generating" if inside[0] else "judge" if name == "judge" else "scored"] += n
            hidden = output[0]
            if hidden.requires_grad:
                hidden.register_hook(lambda _: tokens.update(backward=n))

        return seen

    for name, model in models.items():
        model.base_model.register_forward_hook(hook(name), with_kwargs=True)


def trainer_of(kind, folder, work, scratch):
    """The trainer, its clock and its models."""
    words = AutoTokenizer.from_pretrained(folder)
    load = {"dtype": torch.float32}
    models = {name: AutoModelForCausalLM.from_pretrained(folder, **load) for name in ("policy", "reference")}
    if kind == "nash_md":
        from trl.experimental.nash_md import NashMDConfig as Config
        from trl.experimental.nash_md import NashMDTrainer as Trainer

        models["judge"] = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, **load)
    else:
        from trl.experimental.online_dpo import OnlineDPOConfig as Config
        from trl.experimental.online_dpo import OnlineDPOTrainer as Trainer
    settings = Config(
        output_dir=scratch,
        per_device_train_batch_size=work["prompts_per_round"],
        max_steps=work["warm_up"] + work["steps"] + COUNTED,
        max_new_tokens=work["max_new_tokens"],
        max_length=512,
        learning_rate=work["learning_rate"],
        temperature=1.0,
        bf16=False,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        gradient_checkpointing=False,
    )
    clock = Clock(work["warm_up"] + work["steps"], models)
    trainer = Trainer(
        model=models["policy"],
        ref_model=models["reference"],
        reward_funcs=models.get("judge", reward),
        args=settings,
        train_dataset=Dataset.from_dict({"prompt": work["prompts"]}),
        processing_class=words,
        callbacks=[clock],
    )
    return trainer, clock, models


def main() -> None:
    """Train, print."""
    kind, folder, work = sys.argv[1], sys.argv[2], json.loads(Path(sys.argv[3]).read_text())
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    disable_progress_bars()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        trainer, clock, models = trainer_of(kind, folder, work, scratch)
        trainer.train()
    n_rows = 2 * work["prompts_per_round"]
    n_tokens = COUNTED * n_rows * (work["prompt_length"] + work["max_new_tokens"])
    size = {name: sum(p.nbytes for p in model.parameters()) for name, model in models.items()}
    n_timed = clock.timed + 1
    found = {
        "wall": [b - a for a, b in zip(clock.wall, clock.wall[1:n_timed], strict=False)],
        "processor": [b - a for a, b in zip(clock.processor, clock.processor[1:n_timed], strict=False)],
        "peak_bytes": clock.peak,
        "passes": {"copies": sum(size.values()) / size["policy"]}
        | {kind: clock.tokens[kind] / n_tokens for kind in ("generating", "judge", "scored", "backward")},
        "versions": {name: version(name) for name in ("trl", "torch", "transformers")},
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
