"""The judges of the demonstration, as `mpo` finds them: benchmarks.real_model.demo_judges:people and the others.

    DEMO_LLM=runs/demo-llm python -m benchmarks.real_model.demo_judges --data ../shared/data

DEMO_LLM names the folder of the demonstration, whose model/ is the start model. The command trains the two judges of
human pairs there: `people`, and `others` on pairs of other prompts. Both read an answer as the start model does, and
have a trained head on what it thinks meanwhile (`benchmarks.real_model.race.human`). Pairs are those
of PandaLM, whose short instructions people have labelled. The rest are criteria that a person could hold, and one that
only asks whether an answer is likely and repeats nothing.
"""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

import llm_bridge as bridge
from benchmarks.real_model.race import human, populations
from benchmarks.real_model.race.plan import TEMPERATURE
from benchmarks.real_model.race.reader import Fluency, Reader, chat
from llm_bridge.judges import Judge
from mmd.host.files import replacing

JUDGES = ("people", "others")
SOURCES = ("pandalm-testset-v1",)
PROMPT_TOKENS, LONGEST, AT_A_TIME = 96, 32, 8  # that are read, of a prompt and of an answer; pairs


def place() -> Path:
    """The folder of the demonstration."""
    return Path(os.environ.get("DEMO_LLM", "runs/demo-llm"))


@cache
def reader() -> Reader:
    """The start model as it reads."""
    folder = place() / "model"
    return Reader(bridge.load(folder), bridge.Tokenizer(folder), PROMPT_TOKENS, TEMPERATURE, LONGEST)


@dataclass(frozen=True)
class Trained:
    """A judge of human pairs; the model is read when it is first asked.

    Attributes:
        name: of its file.
    """

    symmetric: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True

    name: str

    @property
    def path(self) -> Path:
        """Of what was trained."""
        return place() / "judges" / f"{self.name}.npz"

    @cached_property
    def judge(self) -> human.HumanJudge:
        """Head and reader."""
        with np.load(self.path) as arrays:
            return human.HumanJudge(reader(), human.Head(*(arrays[part] for part in human.Head._fields)))

    def __call__(self, prompts: Sequence[Any], a: Sequence[Any], b: Sequence[Any]) -> Float[np.ndarray, " n"]:
        """P(a is preferred to b), [n]."""
        return self.judge(prompts, a, b)


class Fluent:
    """The voter for fluency; the model is read when it is first asked."""

    symmetric: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True
    name: ClassVar[str] = "fluent"

    def __call__(self, prompts: Sequence[Any], a: Sequence[Any], b: Sequence[Any]) -> Float[np.ndarray, " n"]:
        """P(a is preferred to b), [n]; 1/2 where both are or neither is."""
        return Fluency(reader())(prompts, a, b)


people, others = (Trained(name) for name in JUDGES)
fluent: Judge = Fluent()
on_topic, direct, concrete = (
    populations.Criterion(score.__name__, score)
    for score in (populations.on_topic, populations.direct, populations.concrete)
)


def thoughts(path: Path, pairs: Sequence[human.Pair]) -> Float[np.ndarray, "n 2 D"]:
    """What the start model thinks of both answers of each pair; of before, where the file of it is there."""
    if path.exists():
        return np.load(path)
    found, read = [], reader()
    for begin in range(0, len(pairs), AT_A_TIME):
        part = pairs[begin : begin + AT_A_TIME]
        both = read([pair.prompt for pair in part] * 2, [*(p.chosen for p in part), *(p.rejected for p in part)])
        read.known.clear()
        found += [np.stack([a.thought, b.thought]) for a, b in zip(both[: len(part)], both[len(part) :], strict=True)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, part.open("wb") as file:
        np.save(file, np.array(found, np.float32))
    return np.load(path)


def main() -> None:
    """Train both judges, and say how often each is right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of text/prefs_*.jsonl.gz")
    asked = parser.parse_args()

    def fits(text: str) -> bool:
        return len(chat(reader().words, text)) <= PROMPT_TOKENS

    train, dev = (human.pairs(asked.data / "text", part, fits, SOURCES) for part in ("train", "dev"))
    told = {}
    for name, known, tested in zip(JUDGES, train, dev, strict=True):
        path = Trained(name).path
        some = {"read": known, "tested": tested}
        both = [thoughts(path.with_name(f"{name}-{part}.npy"), pairs) for part, pairs in some.items()]
        head = human.train(both[0])
        told[name] = human.accuracy(head, *both)
        np.savez(path, **head._asdict())
        right = f"right on {told[name]['dev']:.0%} of {told[name]['dev_pairs']} pairs that it has not seen"
        print(f"{name}: {told[name]['train_pairs']} pairs, {right}", flush=True)
    (place() / "judges" / "judges.json").write_text(json.dumps(told, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
