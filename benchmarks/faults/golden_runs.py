"""Forty quick runs whose every number is written down, to compare two states of the source on one machine.

    python -m benchmarks.faults.golden_runs record FOLDER [--only WORD] [--as-before]
    python -m benchmarks.faults.golden_runs compare BEFORE AFTER [AS_BEFORE]

A change that should change nothing is recorded before and after. The runs are games x algorithms, a comparison, the
laboratory, batches, a run that goes on from its limit; training x methods, whole weights and adapters, a run that was
killed and goes on, export, answers, a tournament, a judge. All of them go through public names and the commands
`python -m mmd` and `python -m llm_bridge`, so the same script runs wherever modules stand.

FOLDER gets a JSON file for each run: its exit status, what it said if it was refused, the files it left, and what is in
them: texts, counts, names, numbers, weights, and the answers that the judge of a training run was shown. Times,
versions, commits and paths are left out, and what is inside the checkpoints of training.

Statuses, counts, draws and names have to be equal; floats of solvers to 1e-12, those of training to 1e-5, relative to
the largest number of the array or column that they stand in. Every difference is printed, and `REASONS` says why those
beyond these bounds are there; what it does not know is a fault. With `--as-before` the runs that leave the method to
`auto` name the one that `auto` was up to version 0.1; a recording of them, AS_BEFORE, shows that this method has not
changed. What is found is stored in `benchmarks/results/golden_runs.json`. Exit status: 0 if every difference is within
the bounds or has its reason, 1 if not.
"""

import argparse
import contextlib
import csv
import hashlib
import io
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.faults.kill_and_train import CONFIG, WORDS
from benchmarks.report import environment, store

PRECISION = {"solve": 1e-12, "train": 1e-5}  # by the first word of a run's name
LEFT_OUT = re.compile(
    r"seconds?|timing_s|versions?|commit|command|environment|time|memory|per_second|model$|model_name_or_path$"
)
ROUNDING = 3e-7  # of training, absolute: two or three roundings of float32 in numbers of size 1
SOLUTIONS = ("row", "column", "values", "nash_conv", "iterates", "iterations", "faces", "tolerances")
CYCLE, KUHN, LEDUC = "preference:cycle", "kuhn_poker", "leduc_poker"
MATRIX = [[2.0, -1.0, 0.5], [-3.0, 1.0, 0.25], [0.5, 0.75, -1.5], [1.0, -2.0, 0.0]]

JUDGE = """
import json, os, pathlib, signal
import numpy as np

def shorter(prompts, a, b):
    with open("asked.jsonl", "a") as file:
        file.writelines(json.dumps({"prompt": p, "a": x, "b": y}) + "\\n" for p, x, y in zip(prompts, a, b))
    return 1 / (1 + np.exp(np.array([len(x) - len(y) for x, y in zip(a, b)]) / 3.0))

def deadly(prompts, a, b):
    path = pathlib.Path("asked.jsonl")
    if path.exists() and "run" in os.listdir() and os.path.exists("run/checkpoints/step_00000001"):
        if not os.path.exists("killed"):
            pathlib.Path("killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return shorter(prompts, a, b)
"""
SOLVES = {
    "cycle auto": f"{CYCLE}",
    "kuhn auto": KUHN,
    "leduc auto": f"{LEDUC} --max-iterations 300",
    "matrix auto": "matrix.csv",
    "tree of tokens auto": "token_tree:vocabulary=2,length=2",
    "cycle anchored": f"{CYCLE} --algorithm anchored --max-iterations 400",
    "matrix float32": "matrix.csv --algorithm mmd --dtype float32 --seed 3 --max-iterations 200",
    "kuhn fixed": f"{KUHN} --algorithm mmd --alpha 0.1 --eta 0.1 --max-iterations 400",
    "kuhn refresh": f"{KUHN} --algorithm mmd --alpha 0.5 --eta 0.2 --magnet refresh=50 --max-iterations 400",
    "kuhn moving": f"{KUHN} --algorithm mmd --alpha 0.5 --eta 0.2 --magnet moving=0.05 --max-iterations 400",
    "kuhn halpern": f"{KUHN} --algorithm mmd --magnet halpern --center uniform --max-iterations 400",
    "kuhn behavioral": f"{KUHN} --algorithm mmd-behavioral --max-iterations 400",
    "kuhn r-nad": f"{KUHN} --algorithm r-nad --max-iterations 400",
    "kuhn cfr+": f"{KUHN} --algorithm cfr+ --max-iterations 400",
    "kuhn dcfr": f"{KUHN} --algorithm dcfr --polish --tolerance 1e-9",
    "kuhn rtcfr+": f"{KUHN} --algorithm rtcfr+ --max-iterations 400",
    "kuhn optimistic": f"{KUHN} --algorithm optimistic --max-iterations 400",
    "cycle mpo": f"{CYCLE} --algorithm mpo --max-iterations 400",
    "cycle comal": f"{CYCLE} --algorithm comal --max-iterations 400",
    "cycle nash-md": f"{CYCLE} --algorithm nash-md --max-iterations 400",
    "refused": f"{KUHN} --algorithm mnd",
}
ANY = float("inf")  # what differs in kind may differ by any number
# Of differences since issue G began: the run, the place in it, how large they may be, why. The first that fits counts.
REASONS = (
    ("solve_.*auto", "/files/run/.*|/statuses", ANY, "auto chooses the interior point method (decision 18)"),
    ("solve_compare", "/files/runs/auto/.*", ANY, "auto chooses the interior point method (decision 18)"),
    ("solve_compare", "/files/.*checkpoint.npz.*", ANY, "mmd compare keeps checkpoints of its runs"),
    ("solve_batch", "/default/.*", ANY, "solve_many takes the batched interior point method (decision 18)"),
    ("solve_cycle_mpo", "/files/.*|/statuses", ANY, "mpo is two loops unless a number is given (decision 17)"),
    ("solve_lab", ".*/feedback/kind", ANY, "mmd.Judge is called NoisyJudge; the old name stays"),
    ("train_refused", "/refused/0", ANY, "code from outside has one door, which says what failed"),
    ("train_answers", ".*/eval.json/converged", ANY, "a tournament says whether its lottery is converged"),
    ("train_answers", "/files/.*comparisons.jsonl.*", ANY, "mpo eval keeps what the judge said of each pair"),
    ("train_answers", ".*/eval.json/(lottery|exploitability).*", 1e-11, "auto ends an interior point at its tolerance"),
    (
        "train_(?!answers|refused).*",
        ".*",
        ROUNDING,
        "the loss calls mmd.update.sampled_objective since 170241c: sums in another order, in float32",
    ),
)
AS_BEFORE = (
    (".*", ".*/algorithm/name", ANY, "what was auto is called restarted"),
    (
        "solve_batch",
        "/default/nash_conv",
        1e-15,
        "rounding: games of a named method are batched in other groups",
    ),
)
METHODS = ("mpo", "egpo", "inpo", "iterative_dpo", "nash_md", "online_ipo", "self_play", "sppo")
SIZES = "--num-generations 4 --prompts-per-round 2 --max-new-tokens 3 --learning-rate 1e-3 --max-steps 2"
TRAIN = f"train --quiet --model-name-or-path model --dataset-name prompts.jsonl --output-dir run {SIZES}"
PAIRS = "--quiet --model-name-or-path model --dataset-name pairs.jsonl --output-dir run --learning-rate 1e-2"
DRAWN = "--dataset-name prompts.jsonl --num-generations 2 --max-new-tokens 3"


# -------------------------------------------------------------------- one command, one run


class Done(NamedTuple):
    """How a command ended.

    Attributes:
        status: its exit status.
        printed, said: on stdout and stderr.
    """

    status: int
    printed: str
    said: str


def command(package: str, line: str) -> Done:
    """Carry out a command line in this process."""
    printed, said, argv = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = [package, *line.split()]
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
            runpy.run_module(package, run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        status = stop.code
    else:
        status = 0
    finally:
        sys.argv = argv
    return Done(int(status or 0), printed.getvalue(), said.getvalue())


def commands(package: str, *lines: str) -> Callable[[], dict[str, Any]]:
    """A run of some command lines, one after the other."""

    def run() -> dict[str, Any]:
        done = [command(package, line) for line in lines]
        return {"statuses": [one.status for one in done], "refused": [one.said for one in done if one.status == 2]}

    return run


def killed(line: str) -> dict[str, Any]:
    """A process that the judge kills in its second round, and the same command again, which goes on."""
    words = [sys.executable, "-m", "llm_bridge", *line.split()]
    first = subprocess.run(words, capture_output=True, check=False).returncode
    return {"statuses": [first, command("llm_bridge", line).status], "killed": first == -signal.SIGKILL}


def listed_games() -> dict[str, Any]:
    """What `mmd games` prints."""
    done = command("mmd", "games")
    return {"statuses": [done.status], "printed": done.printed.splitlines()}


# -------------------------------------------------------------------- runs in Python


def of_solution(solution: Any) -> dict[str, Any]:
    """What a solution says, times apart."""
    numbers = ("iterate", "iterations", "gradient_evaluations", "value", "exploitability", "nash_conv")
    found = {name: getattr(solution, name) for name in (*numbers, "regularized_gap", "converged", "tolerance", "dtype")}
    return found | {"status": solution.status.value, "policy": list(solution.policy.probabilities)}


def solved_in_python() -> dict[str, Any]:
    """The magnets as objects."""
    import games
    import mmd

    cycle, kuhn = games.load(CYCLE), games.load(KUHN)
    settings = {"eta": 0.1, "alpha": 0.1}
    magnets = {"fixed": mmd.Fixed("dilated"), "refresh": mmd.Refresh(every=64), "moving": mmd.MovingAverage(rate=0.05)}
    found = {
        f"{name} on {game.name}": of_solution(
            mmd.solve(game, mmd.MagneticMirrorDescent(magnet=magnet, **settings), max_iterations=200)
        )
        for name, magnet in magnets.items()
        for game in (cycle, kuhn)
    }
    return found | {"exactly": list(mmd.solve_exactly(kuhn).plans)}


def batch(*, as_before: bool = False) -> dict[str, Any]:
    """Many matrix games at once, of several sizes; by the default method or by what that was, to begin with."""
    import mmd

    rng = np.random.default_rng(5)
    matrices = [rng.normal(size=(m, n)) for m, n in [(2, 2), (3, 5), (4, 4), (7, 3), (5, 5)] for _ in range(4)]
    found = {
        "default": mmd.solve_many(matrices, mmd.algorithms.load("pcfr+")(iterate="last") if as_before else None),
        "mmd": mmd.solve_many(matrices[:6], mmd.MagneticMirrorDescent(eta=0.1, alpha=0.1), max_iterations=256),
    }
    return {
        name: {field: getattr(many, field) for field in SOLUTIONS} | {"why": [one.value for one in many.statuses]}
        for name, many in found.items()
    }


def fitted() -> dict[str, Any]:
    """`MPO.fit` as the readme shows it, with a magnet of `mmd`."""
    import jax

    import llm_bridge as bridge
    import mmd

    sys.path.insert(0, os.getcwd())
    try:
        shorter = runpy.run_path("golden_judge.py")["shorter"]
    finally:
        sys.path.remove(os.getcwd())
    policy = bridge.load("model")
    sizes: dict[str, Any] = {"group_size": 4, "prompts_per_round": 2, "max_new_tokens": 3}
    method = bridge.MPO(shorter, eta=0.4, alpha=0.1, magnet=mmd.Refresh(every=1), **sizes)
    prompts, key = ["w1 w2", "w3 w4", "w5 w6"], jax.random.key(3)
    result = method.fit(policy, prompts, steps=2, key=key)
    bridge.save(result.policy, "fitted")
    return {"status": str(getattr(result.status, "value", result.status)), "history": result.history}


# -------------------------------------------------------------------- what is run


def training_runs() -> dict[str, Callable[[], dict[str, Any]]]:
    """The runs of language models."""
    judged = f"{TRAIN} --judge golden_judge:shorter"
    found = {f"train {name}": commands("llm_bridge", f"{judged} --method {name}") for name in METHODS}
    found["train sft"] = commands("llm_bridge", f"train --method sft --max-steps 3 {PAIRS}")
    for name in ("mpo", "inpo"):
        lines = (f"{judged} --method {name} --lora-r 2", "export run --output-dir merged --merge")
        found[f"train {name} adapter"] = commands("llm_bridge", *lines)
    found["train mpo held out"] = commands(
        "llm_bridge",
        f"{judged} --magnet refresh=1 --eval-dataset-name prompts.jsonl --eval-steps 1 --weights last",
        "export run --output-dir last --weights last",
        "export run --output-dir magnet --weights magnet",
    )
    deadly = f"{TRAIN} --judge golden_judge:deadly --save-steps 1 --resume"
    found["train killed"] = lambda: killed(deadly)
    found["train answers"] = commands(
        "llm_bridge",
        f"generate --model-name-or-path model {DRAWN} --output-file one.jsonl",
        f"generate --model-name-or-path model {DRAWN} --output-file two.jsonl --seed 1 --temperature 0.7 --top-p 0.9",
        f"eval one=one.jsonl two=two.jsonl three=model {DRAWN} --judge golden_judge:shorter --output-dir out",
    )
    found["train judge"] = commands(
        "llm_bridge",
        f"train-judge {PAIRS} --per-device-train-batch-size 4 --max-length 64",
        f"eval one=model two=model {DRAWN} --judge run --output-dir out",
    )
    found["train refused"] = commands("llm_bridge", f"{TRAIN} --judge nobody:here", f"{judged} --eta -1")
    found["train fit"] = fitted
    return found


def runs() -> dict[str, Callable[[], dict[str, Any]]]:
    """Name -> run, in the current folder."""
    found = {f"solve {name}": commands("mmd", f"solve {line} --quiet --out run") for name, line in SOLVES.items()}
    limited = f"solve {KUHN} --algorithm anchored --quiet --no-polish --out run"
    found["solve resumed"] = commands(
        "mmd", f"{limited} --max-iterations 150", f"{limited} --resume", f"verify {KUHN} run", "plot run --out a.svg"
    )
    found["solve compare"] = commands(
        "mmd", f"compare {CYCLE} --algorithms auto,anchored,mmd --max-iterations 300 --quiet --out runs"
    )
    noisy = "--feedback judge=4 --order-bias 0.1 --both-orders --seeds 3"
    found["solve lab"] = commands(
        "mmd",
        f"lab {CYCLE} --methods mpo,omwu,egpo --iterations 60 --quiet --out exact",
        f"lab {CYCLE} --methods mpo,inpo --iterations 60 --quiet --out noisy {noisy}",
    )
    found["solve nothing, list games"] = listed_games
    found["solve in Python"] = solved_in_python
    found["solve batch"] = batch
    return found | training_runs()


def runs_as_before() -> dict[str, Callable[[], dict[str, Any]]]:
    """Those that leave the method to `auto`, by the name of what it was."""
    lines = {name: line for name, line in SOLVES.items() if "--algorithm" not in line}
    found = {
        f"solve {name}": commands("mmd", f"solve {line} --algorithm restarted --quiet --out run")
        for name, line in lines.items()
    }
    found["solve batch"] = partial(batch, as_before=True)
    return found


def prepare(folder: Path) -> None:
    """What runs read: a matrix, prompts, pairs, a judge, and a tiny model with a tokenizer."""
    import jax
    import tokenizers
    from tokenizers import models, pre_tokenizers

    import llm_bridge as bridge

    (folder / "matrix.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in MATRIX))
    (folder / "golden_judge.py").write_text(JUDGE)
    prompts = [{"prompt": f"w{i} w{(3 * i + 1) % 10}"} for i in range(5)]
    pairs = [{"prompt": f"w{i}", "chosen": "w2 " * (i % 3 + 1), "rejected": "w3"} for i in range(8)]
    for name, rows in {"prompts": prompts, "pairs": pairs}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    bridge.save(bridge.init(CONFIG, jax.random.key(0)), folder / "model")
    words = tokenizers.Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.save(str(folder / "model" / "tokenizer.json"))
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "pad_token": "<pad>"}
    (folder / "model" / "tokenizer_config.json").write_text(json.dumps(names))


# -------------------------------------------------------------------- what is written down


def plain(value: Any) -> Any:
    """As JSON has it, without what differs from one start to the next."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items() if not LEFT_OUT.search(str(k).rpartition(".")[2])}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if hasattr(value, "item"):
        return plain(value.item())
    if isinstance(value, str):
        return value.replace(os.getcwd(), "WORK").replace(os.path.realpath(os.getcwd()), "WORK")
    return value if isinstance(value, bool | int | float) or value is None else str(value)


def arrays(found: Any) -> dict[str, Any]:
    """Name -> dtype, shape, numbers."""
    return {
        name: {"dtype": str(array.dtype), "shape": list(array.shape), "numbers": plain(np.ravel(array).tolist())}
        for name, array in ((name, np.asarray(found[name])) for name in found)
    }


def table(text: str) -> dict[str, Any]:
    """Columns of a CSV file, numbers as numbers; times apart."""

    def cell(word: str) -> Any:
        with contextlib.suppress(ValueError):
            return int(word) if re.fullmatch(r"-?\d+", word) else float(word)
        return word

    rows = list(csv.reader(io.StringIO(text)))
    header, body = (rows[0], rows[1:]) if rows else ([], [])
    return {name: [cell(row[i]) for row in body] for i, name in enumerate(header) if not LEFT_OUT.search(name)}


def content(path: Path) -> Any:
    """What is written down of a file."""
    if path.suffix == ".npz":
        with np.load(path) as found:
            if "run.json" not in found.files:
                return arrays(found)
            return sorted(found.files)  # a checkpoint: what is in it is seen where a run goes on
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        return arrays(load_file(path))
    if path.suffix in (".svg", ".png", ".part") or path.name.startswith("."):
        return "there"
    text = path.read_text("utf-8")
    if path.suffix == ".json" and path.name not in ("tokenizer.json", "environment.json"):
        return plain(json.loads(text))
    if path.name == "environment.json":
        return sorted(json.loads(text))
    if path.suffix == ".jsonl":
        return [plain(json.loads(line)) for line in text.splitlines()]
    if path.suffix == ".csv":
        return table(text)
    if path.suffix == ".yaml":
        import yaml

        return plain(yaml.safe_load(text))
    return hashlib.sha256(plain(text).encode()).hexdigest()


def files(folder: Path, before: set[Path]) -> Iterator[tuple[str, Any]]:
    """Every file that a run left, by its name; of a training run's checkpoints the newest alone, as a name.

    How many there are depends on how long a round took.
    """
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if "checkpoints" in parts:
            if parts[-2] == "checkpoints" and path == max(path.parent.iterdir()):
                yield "/".join(parts), "there"
        elif path.is_file() and path not in before and "__pycache__" not in parts:
            yield "/".join(parts), content(path)


def record(out: Path, only: str, *, as_before: bool) -> None:
    """Carry out the runs, each in a folder of its own.

    Args:
        out: where their recordings go.
        only: runs whose name contains this.
        as_before: only those that leave the method to `auto`, by the name of what it was.
    """
    out.mkdir(parents=True, exist_ok=True)
    home = Path.cwd()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(home), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as made:
        prepare(Path(made))
        for name, run in (runs_as_before() if as_before else runs()).items():
            if only not in name:
                continue
            with tempfile.TemporaryDirectory() as work:
                folder = Path(work).resolve()
                subprocess.run(["cp", "-r", f"{made}/.", str(folder)], check=True)
                before = set(folder.rglob("*"))
                os.chdir(folder)
                try:
                    found = plain(run()) | {"files": dict(files(folder, before))}
                finally:
                    os.chdir(home)
            (out / f"{name.replace(' ', '_')}.json").write_text(json.dumps(found, indent=0, sort_keys=True))
            print(f"{name}: {found.get('statuses', 'done')}", flush=True)


# -------------------------------------------------------------------- two recordings


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Path -> text, count or list of numbers."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{path}/{key}")
    elif isinstance(value, list) and not all(isinstance(x, int | float) for x in value):
        yield f"{path}#", len(value)
        for i, item in enumerate(value):
            yield from leaves(item, f"{path}/{i}")
    else:
        yield path, value


class Difference(NamedTuple):
    """Of one place in two recordings of a run.

    Attributes:
        path: the place.
        said: what differs, in words.
        within: whether it is within the precision of floats.
        why: its reason; "" if it is within, or if none is known.
    """

    path: str
    said: str
    within: bool
    why: str

    def __str__(self) -> str:
        mark = "" if self.within else f"  ({self.why})" if self.why else "  <-- not allowed"
        return f"  {self.path}: {self.said}{mark}"


def difference(old: Any, new: Any) -> tuple[str, float, float]:
    """What is different in words, "" for nothing; the relative and the absolute error, infinite where not of floats."""
    if json.dumps(old) == json.dumps(new):
        return "", 0.0, 0.0
    one, other = ([x] if not isinstance(x, list) else x for x in (old, new))
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (*one, *other))
    if not numbers or len(one) != len(other):
        return f"{str(old)[:60]!r} -> {str(new)[:60]!r}", ANY, ANY
    if any(isinstance(x, int) and isinstance(y, int) and x != y for x, y in zip(one, other, strict=True)):
        return f"counts {str(old)[:60]} -> {str(new)[:60]}", ANY, ANY
    first, second = np.array(one, float), np.array(other, float)
    if not np.array_equal(np.isfinite(first), np.isfinite(second)):
        return "what is finite differs", ANY, ANY
    finite = np.isfinite(first)
    largest = max(np.abs(first[finite]).max(initial=0), np.abs(second[finite]).max(initial=0))
    error = float(np.abs(first[finite] - second[finite]).max(initial=0))
    relative = error / largest if largest else 0.0
    return f"floats differ by {relative:.1e} of {largest:.3g}", relative, error


def differences(name: str, paths: Sequence[Path], reasons: Sequence[tuple[str, str, float, str]]) -> list[Difference]:
    """Every difference between two recordings of a run, with its reason."""
    old, new = (dict(leaves(json.loads(path.read_text()))) for path in paths)
    found = []
    for path in sorted(old.keys() | new.keys()):
        if path not in old or path not in new:
            said, relative, error = "gone" if path in old else "new", ANY, ANY
        else:
            said, relative, error = difference(old[path], new[path])
        if said:
            within = relative <= PRECISION[name.partition("_")[0]]
            known = (
                w for r, p, most, w in reasons if re.fullmatch(r, name) and re.fullmatch(p, path) and error <= most
            )
            found.append(Difference(path, said, within, "" if within else next(known, "")))
    return found


def compare(before: Path, after: Path, reasons: Sequence[tuple[str, str, float, str]]) -> dict[str, Any]:
    """Print every difference; a summary of each run that both folders have, and what is in one of them alone."""
    runs: dict[str, Any] = {}
    names = [{path.stem for path in folder.glob("*.json")} for folder in (before, after)]
    for name in sorted(names[0] & names[1]):
        found = differences(name, [folder / f"{name}.json" for folder in (before, after)], reasons)
        print("\n".join([f"{name}: {f'{len(found)} differences' if found else 'bit for bit'}", *map(str, found)]))
        beyond = Counter(one.why for one in found if not one.within)
        unexplained = [str(one).strip() for one in found if not one.within and not one.why]
        runs[name] = {"differences": len(found), "within the bounds": sum(one.within for one in found)}
        runs[name] |= {"reasons": {why: n for why, n in beyond.items() if why}, "without a reason": unexplained}
    exact = sum(not run["differences"] for run in runs.values())
    faults = sum(len(run["without a reason"]) for run in runs.values())
    print(f"{len(runs)} runs, {exact} bit for bit; {faults} differences without a reason")
    return {"runs": runs, "bit for bit": exact, "without a reason": faults, "in one alone": sorted(names[0] ^ names[1])}


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    subs = parser.add_subparsers(dest="what", required=True)
    recording, comparing = subs.add_parser("record"), subs.add_parser("compare")
    recording.add_argument("folder", type=Path)
    recording.add_argument("--only", default="", help="runs whose name contains this")
    recording.add_argument("--as-before", action="store_true", help="what `auto` was up to version 0.1, by its name")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    comparing.add_argument("as_before", type=Path, nargs="?")
    given = parser.parse_args()
    if given.what == "record":
        record(given.folder.resolve(), given.only, as_before=given.as_before)
        return 0
    found = {"since issue G began": compare(given.before, given.after, REASONS)}
    if given.as_before is not None:
        found["the method that auto was"] = compare(given.before, given.as_before, AS_BEFORE)
    store("golden_runs", {"comparisons": found, **environment()})
    return 0 if not any(one["without a reason"] for one in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
