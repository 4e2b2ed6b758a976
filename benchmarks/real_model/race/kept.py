"""Finished runs, kept beside the results, so that a race goes on on another machine, without the folder it began in.

`KEPT` has a file for each: what `results.of_run` tells of it and its answers to the prompts on which policies are
compared, packed. Policies are not kept, so adversaries are trained on the machine that has trained the policy. Of the
first 16 runs, and of attempts that were given up (`EARLIER`), only what is told was kept.
"""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.real_model.race import answers, plan, results, training
from benchmarks.real_model.race.plan import Run
from mmd.host.files import replacing

KEPT, EARLIER = report.RESULTS / "real_race", "earlier.json"


def keep(place: Path, kept: Path = KEPT) -> None:
    """Write what is finished in a race's folder."""
    kept.mkdir(parents=True, exist_ok=True)
    for name, path, part, run in _files(place):
        told_before = run is not None and results.told_of(place, run.name).exists()
        untrained = run is not None and not training.is_done(place / run.name)
        if results.is_whole(path, part) and not told_before and not untrained:
            told = None if run is None else results.of_run(place, run)
            content = json.dumps({"told": told, "answers": answers.rows(path)})
            with replacing(kept / f"{name}.json.gz") as file:
                file.write_bytes(gzip.compress(content.encode(), mtime=0))


def restore(place: Path, kept: Path = KEPT) -> None:
    """Bring back what a race's folder does not have."""
    for attempt in json.loads((kept / EARLIER).read_text("utf-8")) if (kept / EARLIER).exists() else []:
        results.told_of(place / "earlier", attempt["run"]).parent.mkdir(parents=True, exist_ok=True)
        _write(results.told_of(place / "earlier", attempt["run"]), json.dumps(attempt))
    for name, path, part, run in _files(place):
        file = kept / f"{name}.json.gz"
        if not file.exists() or results.is_whole(path, part):
            continue
        record: dict[str, Any] = json.loads(gzip.decompress(file.read_bytes()))
        path.parent.mkdir(parents=True, exist_ok=True)
        if run is not None:  # first: without it the answers are those of a run that is still trained
            _write(results.told_of(place, run.name), json.dumps(record["told"]))
        if record["answers"] is not None:
            _write(path, "".join(f"{json.dumps(row)}\n" for row in record["answers"]))


def _write(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write_text(text, "utf-8")


def _files(place: Path) -> Iterator[tuple[str, Path, str, Run | None]]:
    """Name, answers and part of each run that there may be, and of the start on each population."""
    seconds = [plan.second(population, method) for population in plan.POPULATIONS for method in plan.SETTINGS]
    all_runs = (*plan.tuning_runs(), *(run for population in plan.POPULATIONS for run in plan.runs(population)))
    for run in dict.fromkeys((*all_runs, *seconds)):
        part = plan.report_part(run.population)
        yield run.name, results.report_of(place, run, part), part, run
    for population in ("tuning", *plan.POPULATIONS):
        yield f"start-{population}", results.start_of(place, population), plan.report_part(population), None
