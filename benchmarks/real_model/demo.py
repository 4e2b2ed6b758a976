"""A language model, end to end on real text, in under 30 minutes of two processor cores.

    python -m benchmarks.real_model.demo [--data ../shared/data/text] [--out runs/demo-llm] [--scale 1]

A tokenizer and a small Llama are trained from scratch on preference pairs, then fine-tuned on chosen answers. Two
judges are trained on halves of the pairs that share no prompt: the first trains policies by Magnetic Preference
Optimization (MPO), iterative DPO and INPO, the second is optimised by no one and only evaluates. Win rates between all
policies under both judges, their Nash lotteries, and a verdict end the report.

Each stage leaves a folder with `result.json`, and is not done again where that is there. `--scale 0.1` does a tenth of
the steps, to see that everything works; only the full scale is stored.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax

from benchmarks import report
from benchmarks.real_model import page as demo_llm_page
from benchmarks.real_model import stages as demo_llm_stages
from benchmarks.real_model.stages import STAGES, Place, Settings

RESULT = "result.json"
COMPILED = "/jax/core/compile/backend_compile_duration"
Stage = Callable[[Place, Any, dict[str, Any]], dict[str, Any]]


@dataclass
class Clock:
    """What a stage took: wall and processor seconds, and how often and how long XLA compiled."""

    wall: float = field(default_factory=time.perf_counter)
    processor: float = field(default_factory=time.process_time)
    compiled: list[float] = field(default_factory=list)

    def listen(self, event: str, duration_secs: float, **_: Any) -> None:
        """For `jax.monitoring`."""
        if event == COMPILED:
            self.compiled.append(duration_secs)

    def read(self) -> dict[str, float]:
        """Seconds since the beginning."""
        return {
            "wall": time.perf_counter() - self.wall,
            "processor": time.process_time() - self.processor,
            "programs": len(self.compiled),
            "compile": sum(self.compiled),
        }


def main() -> int:
    """Do what is not done yet, print, store; 0 unless the text is not there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/text"), help="folder of prefs_*.jsonl.gz")
    parser.add_argument("--out", type=Path, default=Path("runs/demo-llm"), help="where every stage leaves its folder")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the steps of every stage")
    parser.add_argument("--until", choices=[stage.__name__ for stage in STAGES], help="the last stage that is done")
    arguments = parser.parse_args()
    missing = [name for name in demo_llm_stages.FILES if not (arguments.data / name).exists()]
    if missing:
        print(f"demo-llm is skipped: {arguments.data} has no {' and no '.join(missing)}; --data names another folder")
        return 0
    settings, place, again = Settings().scaled(arguments.scale), Place(arguments.out, arguments.data), False
    found: dict[str, Any] = {"settings": asdict(settings), "scale": arguments.scale}
    for stage in STAGES:
        kept = None if again else before(stage, settings, place)
        again = kept is None
        found[stage.__name__] = carry_out(stage, settings, place, found) if kept is None else kept
        if stage.__name__ == arguments.until:
            return 0
    finish(found, arguments.out)
    return 0


class Watched:
    """Settings that remember which of them were read."""

    def __init__(self, settings: Settings):
        self._settings, self.read = settings, {}

    def __getattr__(self, name: str) -> Any:
        self.read[name] = getattr(self._settings, name)
        return self.read[name]


def before(stage: Stage, settings: Settings, place: Place) -> dict[str, Any] | None:
    """A stage's numbers where it was done before with the settings that it reads; otherwise None."""
    path = place.out / stage.__name__ / RESULT
    if not path.exists():
        return None
    stored, known = json.loads(path.read_text("utf-8")), json.loads(json.dumps(asdict(settings)))
    changed = [name for name, value in stored["settings"].items() if known.get(name) != value]
    if changed:
        print(f"{stage.__name__}: {path.parent} has another {' and another '.join(changed)}", flush=True)
        return None
    print(f"{stage.__name__}: done before, in {path.parent}", flush=True)
    return stored["numbers"]


def carry_out(stage: Stage, settings: Settings, place: Place, found: dict[str, Any]) -> dict[str, Any]:
    """A stage's numbers, and what it took."""
    folder = place.out / stage.__name__
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(f"{stage.__name__}: {(stage.__doc__ or '').partition('.')[0]} ...", flush=True)
    clock, watched = Clock(), Watched(settings)
    jax.monitoring.register_event_duration_secs_listener(clock.listen)
    numbers = stage(place, watched, found)
    numbers["seconds"] = clock.read()
    took = "  {wall:.0f} s, {processor:.0f} s of the processor, {programs} programs compiled in {compile:.0f} s"
    print(took.format(**numbers["seconds"]), flush=True)
    result = {"settings": watched.read, "numbers": numbers}
    (folder / RESULT).write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    return numbers


def finish(found: dict[str, Any], out: Path) -> None:
    """Report, figure, and the stored result of a whole run."""
    found |= {"seconds": total(found), "environment": report.environment()}
    (out / "report.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    found = json.loads((out / "report.json").read_text("utf-8"))
    text = demo_llm_page.page(found)
    (out / "report.md").write_text(text, "utf-8")
    demo_llm_page.draw(found, out / "report.png")
    demo_llm_page.show(found)
    print(f"\nwrote {out / 'report.json'}, report.md and report.png")
    if found["scale"] == 1:
        report.store("demo_llm", found)
        (report.RESULTS.parents[1] / "docs" / "benchmarks" / "demo-llm.md").write_text(text, "utf-8")


def total(found: dict[str, Any]) -> dict[str, float]:
    """Of all stages."""
    stages = [found[stage.__name__]["seconds"] for stage in STAGES]
    return {name: sum(one[name] for one in stages) for name in stages[0]}


if __name__ == "__main__":
    sys.exit(main())
