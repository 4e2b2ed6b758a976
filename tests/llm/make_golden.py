"""Golden values of torch transformers: run where torch is, with the folder of this file on the path.

    PYTHON tests/llm/make_golden.py            writes golden.json and golden.npz beside this file
    PYTHON tests/llm/make_golden.py --check [FOLDER]
                                               compares with them instead; and what `save_for_torch.py` has put into
                                               FOLDER with what it should be

For every case: which tensors its checkpoint has, and the float32 log-probabilities of its rows, each scored alone. In
bfloat16 as well, to know how much of a difference is the precision's. For every family: 50 greedy continuations, and
the gap between the two largest logits at each token.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import CASES, FAMILIES, N_NEW, config_of, family_of, prompts, rows, write
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging

HERE = Path(__file__).parent
BAR = 2e-5  # nats


def names_and_shapes(case: str, folder: Path) -> dict[str, list[int]]:
    """Of the checkpoint that transformers would save."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config_of(case)))
    saved = folder / "saved"
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(saved)
    with safe_open(saved / "model.safetensors", "numpy") as file:
        return {name: list(file.get_slice(name).get_shape()) for name in sorted(file.keys())}


def model_of(folder: Path, dtype: torch.dtype) -> Any:
    model, report = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager", output_loading_info=True
    )
    assert not any(report.values()), report
    return model.eval()


@torch.no_grad()
def log_probs(model: Any, row: np.ndarray) -> np.ndarray:
    tokens = torch.from_numpy(row)[None]
    logits = model(tokens).logits.float()[0, :-1]
    return torch.log_softmax(logits, -1).gather(1, tokens[0, 1:, None])[:, 0].numpy()


@torch.no_grad()
def greedy(model: Any, prompt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    tokens = torch.from_numpy(prompt)[None]
    model.generation_config.eos_token_id = None
    out = model.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        max_new_tokens=N_NEW,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
        pad_token_id=0,
    )
    top = torch.stack([logits.float()[0].topk(2).values for logits in out.logits])
    return out.sequences[0, len(prompt) :].numpy(), (top[:, 0] - top[:, 1]).numpy()


def make(scratch: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    manifest, arrays = {}, {}
    for case in CASES:
        manifest[case] = names_and_shapes(case, scratch / f"{case}_names")
        folder = write(scratch / case, case, {n: tuple(s) for n, s in manifest[case].items()})
        for name, dtype in (("log_probs", torch.float32), ("bfloat16", torch.bfloat16)):
            # A new model for each row: with dynamic rotations it remembers the longest row that it has seen.
            found = [log_probs(model_of(folder, dtype), row) for row in rows(case)]
            arrays[f"{case}/{name}"] = np.concatenate(found)
        if case in FAMILIES:
            model = model_of(folder, torch.float32)
            found = [greedy(model, prompt) for prompt in prompts(family_of(case))]
            arrays[f"{case}/greedy"] = np.stack([tokens for tokens, _ in found]).astype(np.uint8)
            arrays[f"{case}/gaps"] = np.stack([gaps for _, gaps in found]).astype(np.float32)
        print(case, arrays[f"{case}/log_probs"].mean(), flush=True)
    return manifest, arrays


def check_saved(folder: Path) -> None:
    """Every folder that was saved here loads without a missing or unknown tensor and has the same log-probabilities."""
    expected = {case: np.load(HERE / "golden.npz")[f"{case}/log_probs"] for case in CASES}
    expected |= {f"{family}_fresh": np.load(folder / f"{family}_fresh.npy") for family in FAMILIES}
    worst = 0.0
    for name, ours in expected.items():
        case = name.removesuffix("_fresh")
        theirs = np.concatenate([log_probs(model_of(folder / name, torch.float32), row) for row in rows(case)])
        worst = max(worst, float(np.abs(theirs - ours).max()))
        assert worst <= BAR, f"{name}: {worst:.1e}"
    print(f"{len(expected)} saved folders: largest difference of a log-probability {worst:.1e}")


def main() -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        manifest, arrays = make(Path(scratch))
    if "--check" not in sys.argv:
        (HERE / "golden.json").write_text(json.dumps(manifest, separators=(",", ":")) + "\n")
        np.savez_compressed(HERE / "golden.npz", **arrays)
        return
    assert json.loads((HERE / "golden.json").read_text()) == manifest
    stored = np.load(HERE / "golden.npz")
    worst = max(np.abs(stored[name] - array).max() for name, array in arrays.items() if name.endswith("log_probs"))
    print(f"largest difference of a log-probability from the stored one: {worst:.1e}")
    assert worst <= BAR
    if folders := [argument for argument in sys.argv[1:] if argument != "--check"]:
        check_saved(Path(folders[0]))


if __name__ == "__main__":
    main()
