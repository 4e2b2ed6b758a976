"""Torch transformers on one checkpoint, one thread: generation and log-probabilities with their gradients.

    PYTHON run_transformers.py FOLDER WORKLOAD.json         prints JSON

Nothing of this repository is needed, so it runs in an environment of its own. The workload is described in
`benchmarks/device/policies.py`.
"""

import json
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, __version__
from transformers.utils import logging


def best(run, repeats: int) -> dict[str, float]:
    """Least wall-clock and processor seconds of a few runs, after one to warm up."""
    run()
    wall, processor = [], []
    for _ in range(repeats):
        begun, used = time.perf_counter(), time.process_time()
        run()
        wall.append(time.perf_counter() - begun)
        processor.append(time.process_time() - used)
    return {"seconds": min(wall), "processor_seconds": min(processor)}


def main() -> None:
    """Measure and print."""
    folder, work = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None
    prompts, rows = torch.tensor(work["prompts"]), torch.tensor(work["rows"])

    def generate(n_new: int) -> None:
        with torch.no_grad():
            model.generate(
                prompts,
                attention_mask=torch.ones_like(prompts),
                max_new_tokens=n_new,
                do_sample=True,
                top_k=0,
                pad_token_id=0,
            )

    def train(n_parts: int) -> None:
        model.zero_grad()
        for part in rows.chunk(n_parts):
            logits = model(part).logits[:, :-1]
            log_probs = torch.log_softmax(logits.float(), -1).gather(2, part[:, 1:, None])
            (-log_probs.sum()).backward()

    results = {f"generate {n}": best(lambda n=n: generate(n), work["repeats"]) for n in work["new_tokens"]}
    for n_parts, job in ((1, ""), (2, ", in halves")):
        results[f"log_probs and gradient{job}"] = best(lambda n=n_parts: train(n), work["repeats"])
    versions = {"torch": torch.__version__, "transformers": __version__}
    print(json.dumps({"results": results, "versions": versions}))


if __name__ == "__main__":
    main()
