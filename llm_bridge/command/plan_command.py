"""`mpo plan`: what a run would need on chips that need not be here, and whether it fits."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
from jax.sharding import AxisType, Mesh

from llm_bridge.checkpoint import loading
from llm_bridge.command.mesh_choice import GB, arranged, as_axes, judge_at, too_large, typed_axes, work_of
from llm_bridge.command.options import Plan
from llm_bridge.model.architecture import Architecture, BridgeError
from llm_bridge.model.weights import count
from llm_bridge.plan import counts
from llm_bridge.plan.compiled import compiled_with_bytes
from llm_bridge.plan.estimate import held
from llm_bridge.plan.hardware import Topology, topology
from llm_bridge.plan.programs import Described, judging
from llm_bridge.plan.search import Choice, choices, divides
from llm_bridge.plan.work import Axes, LocalJudge, Work
from mmd.host.command_line import UsageError
from mmd.host.files import prepare_file, replacing

DONE = 0
JOBS = ("generate", "update")
BY_MODEL = "by the model without a compiler"
Say = Callable[[Iterable[str]], None]


def plan(options: Plan, argv: Sequence[str], say: Say) -> int:
    """`mpo plan`; the exit status.

    Raises:
        UsageError: the plan does not fit, and what is nearest to it and does.
    """
    if options.output_file is not None:
        prepare_file(options.output_file, (".json",))
    chips, architecture = topology(options.topology), _shape(options)
    judges = _judges(options, chips)
    ours = replace(chips, n_chips=chips.n_chips - sum(j.axes.n_chips for j in judges if j.apart and j.axes))
    axes = as_axes(options.mesh, ours.n_chips) if options.mesh else None
    if axes and not divides(architecture, axes):
        raise UsageError(f"--mesh {options.mesh} does not divide the model evenly; --search lists what does")
    if options.batch is not None and options.batch % options.num_generations:
        wanted = f"a multiple of --num-generations = {options.num_generations}"
        raise UsageError(f"expected --batch to be {wanted}, got {options.batch}")
    work = work_of(options, options.gradient_accumulation_steps or 1)
    work = replace(work, judges=judges)
    if work.prompts % work.parts:
        wanted = f"a divisor of the {work.prompts} prompts of a round"
        raise UsageError(f"expected --gradient-accumulation-steps to be {wanted}, got {work.parts}")
    parts = options.gradient_accumulation_steps
    found = choices(architecture, ours, work, axes=axes, remat=options.remat, parts=parts)
    if options.search:
        say(_table(ours, found))
    if not found or not found[0].fits:
        raise UsageError(_refused(architecture, ours, work, found))
    best = found[0]
    say(_lines(options, architecture, chips, best))
    compiled = _compiled(options, architecture, chips, best)
    say(_compiled_lines(compiled, chips, best))
    if options.output_file is not None:
        _write(options, chips, [best, *found[1:]], compiled)
    return DONE


def _judges(options: Plan, chips: Topology) -> tuple[LocalJudge, ...]:
    """The judge, on the policy's chips or on the last ones.

    Raises:
        UsageError: it cannot be divided as `--judge-mesh` says, or leaves the policy no chip.
    """
    if options.judge is None:
        if options.judge_mesh is not None:
            raise UsageError("--judge-mesh is for a local judge, expected --judge MODEL")
        return ()
    judge = judge_at(options.judge, "tpu" if chips.chip.is_tpu else "gpu")
    if options.judge_mesh is None:
        return (judge,)
    axes = typed_axes(options.judge_mesh)
    if axes.n_chips > chips.n_chips:
        wanted = f"at most {chips.n_chips} devices, those of {chips.text}"
        raise UsageError(f"expected --judge-mesh to have {wanted}, got {options.judge_mesh}")
    if not divides(judge.architecture, axes):
        raise UsageError(f"--judge-mesh {options.judge_mesh} does not divide the judge evenly")
    return (judge._replace(axes=axes, apart=axes.n_chips < chips.n_chips),)


def _shape(options: Plan) -> Architecture:
    try:
        return loading.architecture_at(options.model, options.family)
    except BridgeError as error:
        if Path(options.model).exists():
            raise
        raise UsageError(f"{error}; a folder that holds nothing but its config.json will do") from None


def _refused(a: Architecture, chips: Topology, work: Work, found: Sequence[Choice]) -> str:
    """What is said of a plan that does not fit."""
    every = choices(a, chips, work)
    if not found or not every or not every[0].fits:
        return too_large(every[0] if every else None, chips)
    asked = found[0]
    needed, where = asked.estimate.bytes / GB, f"each of {chips.n_chips} x {chips.chip.name}"
    return (
        f"{asked.text()} needs about {needed:.1f} GB on {where}, {_lacking(asked, chips):.1f} GB more than "
        f"there are; the nearest that fits is {_nearest(asked, every).text()}"
    )


def _nearest(asked: Choice, every: Sequence[Choice]) -> Choice:
    """The fastest choice that fits on the same mesh, or else of all."""
    fitting = [choice for choice in every if choice.fits]
    return next((choice for choice in fitting if choice.axes == asked.axes), fitting[0])


def _lines(options: Plan, a: Architecture, chips: Topology, best: Choice) -> Iterator[str]:
    """The plan, by the model."""
    w, e, chip = best.work, best.estimate, chips.chip
    what = f"an adapter of rank {w.rank}" if w.rank else "all weights"
    apart = "".join(f", and a judge on {j.axes.n_chips} more: {j.axes.text()}" for j in w.judges if j.apart and j.axes)
    yield f"{count(a) / 1e9:.2f} billion weights on {best.axes.n_chips} x {chip.name}: {best.text()}{apart}"
    yield (
        f"a round trains {what}: {w.prompts} prompts of {w.prompt_length} tokens, {w.group} answers of {w.new_tokens} "
        f"({w.rows} rows), {w.epochs} steps{f', and {w.rounds - 1} earlier rounds again' * (w.rounds > 1)}"
    )
    yield from _memory(best, chips)
    for name, seconds in e.seconds.items():
        if seconds:
            bound = _bound(name, best, chips)
            amounts = f"a chip: {e.flops[name] / 1e12:.1f} TFLOP, {e.moved[name] / GB:.1f} GB over links"
            yield f"{name}: {seconds:.2f} to {e.in_turn[name]:.2f} s a round; {amounts}; {bound}"
    mfu = e.useful / chip.flops / e.seconds["update"]
    least, most = _hours(options, best)
    money = ""
    if options.price:
        cost = " to ".join(f"{hours * chips.n_chips * options.price:,.2f}" for hours in (least, most))
        money = f", {cost} at {options.price:g} a chip-hour"
    yield (
        f"{options.max_steps} rounds at the chips' peaks: {least:.2f} hours if links hide behind products, "
        f"{most:.2f} if not, {least * chips.n_chips:.1f} to {most * chips.n_chips:.1f} chip-hours{money}; "
        f"MFU of the update at most {mfu:.2f}"
    )
    yield "not counted: loading, compiling, evaluations, saving, a judge over HTTP, and what chips lose to their peaks"


def _memory(best: Choice, chips: Topology) -> Iterator[str]:
    """What a chip holds at the worst moment, by part, and how much in the others."""
    e = best.estimate
    (worst, most), *others = sorted(e.during.items(), key=lambda item: -item[1])
    listed = ", ".join(f"{name} {size / GB:.2f}" for name, size in e.memory.items())
    less = ", ".join(f"{size / GB:.1f} in the {phase}" for phase, size in others)
    yield (
        f"memory of a chip, GB, {BY_MODEL}: {most / GB:.1f} of {chips.chip.memory / GB:.1f} in the {worst} ({listed}); "
        f"{less}"
    )


def _hours(options: Plan, best: Choice) -> tuple[float, float]:
    """Of the run at the chips' peaks: if links hide behind products, and if not."""
    needed = best.estimate
    return needed.round_seconds * options.max_steps / 3600, needed.round_in_turn * options.max_steps / 3600


def _bound(name: str, best: Choice, chips: Topology) -> str:
    """What a phase waits for at best."""
    e, chip = best.estimate, chips.chip
    reads = e.read if name == "generation" else 0.0
    times = {
        "products": e.flops[name] / chip.flops,
        "links": e.moved[name] / chip.links,
        "memory": reads / chip.bandwidth,
    }
    return f"bound by {max(times, key=lambda key: times[key])}"


def _table(chips: Topology, found: Sequence[Choice]) -> Iterator[str]:
    """The best choice of each mesh, and how many choices there are."""
    yield (
        f"{sum(choice.fits for choice in found)} of {len(found)} choices fit; the best of each mesh, the fastest "
        "first, with seconds of a round if links hide behind products and if not:"
    )
    for choice in _by_mesh(found):
        e, fits = choice.estimate, "" if choice.fits else f"  too large by {_lacking(choice, chips):.1f} GB"
        seconds, moved = f"{e.round_seconds:8.2f} to {e.round_in_turn:8.2f} s", sum(e.moved.values()) / GB
        yield f"  {seconds} {e.bytes / GB:7.1f} GB {moved:8.0f} GB over links  {choice.text()}{fits}"


def _by_mesh(found: Sequence[Choice]) -> list[Choice]:
    """The best choice of each mesh."""
    best: dict[Axes, Choice] = {}
    for choice in found:
        best.setdefault(choice.axes, choice)
    return list(best.values())


def _lacking(choice: Choice, chips: Topology) -> float:
    """GB that a choice needs beyond what there is."""
    return (choice.estimate.bytes - chips.chip.memory) / GB


def _compiled(options: Plan, a: Architecture, chips: Topology, best: Choice) -> dict[str, Any] | None:
    """What the run's programs are, compiled for these chips; None where there is no compiler for them.

    Raises:
        UsageError: the compiler does not know the topology, or refuses a program for its memory.
    """
    if options.estimate or not chips.chip.is_tpu or find_spec("libtpu") is None:
        return None
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no TPU whose metadata could be asked for
    from jax.experimental import topologies

    try:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=options.topology).devices
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(
            f"the compiler has no topology {options.topology} ({reason}); --estimate does without"
        ) from None
    work, state = best.work, held(a, best.axes, best.work).state
    mesh, judge = _mesh(best.axes, devices[: best.axes.n_chips]), state.pop("judge")
    described = Described(a, mesh, work)
    found = {job: _of_job(job, partial(described.lowered, job), work) | {"beside": judge} for job in JOBS}
    for one in work.judges:
        axes = one.axes or best.axes
        program = partial(judging, one, _mesh(axes, devices[len(devices) - axes.n_chips :]), work)
        found["judging"] = _of_job("judging", program, work) | {"beside": 0.0 if one.apart else sum(state.values())}
    return found


def _mesh(axes: Axes, devices: Sequence[Any]) -> Mesh:
    sizes = {name: n for name, n in axes._asdict().items() if n > 1} or {"data": 1}
    return Mesh(arranged(tuple(sizes.values()), devices), tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes))


def _of_job(job: str, lowered: Callable[[], Any], work: Work) -> dict[str, float]:
    try:
        program, n_bytes = compiled_with_bytes(lowered())
    except jax.errors.JaxRuntimeError as error:
        raise UsageError(f"the compiler refuses {job}: {str(error).partition(chr(10))[0]}") from None
    found = counts.counted(program.as_text() or "", work.new_tokens)
    return {"bytes": float(n_bytes), "flops": found.flops, "moved": float(sum(found.moved.values()))}


def _compiled_lines(found: Mapping[str, Any] | None, chips: Topology, best: Choice) -> Iterator[str]:
    if found is None:
        yield f"these numbers are {BY_MODEL}: " + (
            "there is none for GPUs that are not here"
            if not chips.chip.is_tpu
            else "with libtpu (jax[tpu]) programs are compiled"
        )
        return
    for job, numbers in found.items():
        shown = f"{job}, as many questions as are read at a time" if job == "judging" else job
        yield (
            f"compiled {shown}: {numbers['bytes'] / GB:.1f} GB a chip, {numbers['flops'] / 1e12:.1f} TFLOP, "
            f"{numbers['moved'] / GB:.1f} GB over links"
        )
    job, worst = max(found.items(), key=lambda item: item[1]["bytes"] + item[1]["beside"])
    if (most := worst["bytes"] + worst["beside"]) > chips.chip.memory:
        other = "what is trained" if job == "judging" else "the judge"
        beside = f", {worst['beside'] / GB:.1f} of them for {other}" if worst["beside"] else ""
        raise UsageError(
            f"{best.text()} needs {most / GB:.1f} GB a chip as compiled{beside}, and {chips.chip.memory / GB:.1f} GB "
            "are there"
        )


def _write(options: Plan, chips: Topology, found: Sequence[Choice], compiled: Any) -> None:
    """The plan as JSON; its schema: docs/reference/formats.md."""
    assert options.output_file is not None
    best, hours = found[0], _hours(options, found[0])
    content = {
        "schema_version": 1,
        "topology": chips.text,
        "options": best.text(),
        "mesh": best.axes._asdict(),
        "work": {name: value for name, value in asdict(best.work).items() if name != "judges"},
        "estimate": asdict(best.estimate) | {"bytes": best.estimate.bytes},
        "rounds": options.max_steps,
        "hours": hours,
        "cost": None if options.price is None else [each * chips.n_chips * options.price for each in hours],
        "others": [
            {"options": choice.text(), "fits": choice.fits, "bytes": choice.estimate.bytes, "seconds": seconds}
            for choice in _by_mesh(found)[1:]
            for seconds in [[choice.estimate.round_seconds, choice.estimate.round_in_turn]]
        ],
        "compiled": compiled,
        "chip": asdict(chips.chip),
    }
    with replacing(options.output_file) as part:
        part.write_text(json.dumps(content, indent=2, default=str) + "\n", "utf-8")
