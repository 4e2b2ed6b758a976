"""On which mesh a command runs: the one that was typed, or the first choice of the model without a compiler."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from llm_bridge.checkpoint import adapters, loading
from llm_bridge.command.options import Plan, Train
from llm_bridge.judges import preference_model
from llm_bridge.judges.generative import GenerativeJudge
from llm_bridge.model.architecture import Architecture
from llm_bridge.model.attention import chosen as chosen_form
from llm_bridge.model.compute import Compute
from llm_bridge.model.sharding import AXES
from llm_bridge.plan.hardware import Topology, chip_of
from llm_bridge.plan.search import Choice, choices, divides, fewest_copies
from llm_bridge.plan.work import Axes, LocalJudge, Work
from mmd.host.command_line import UsageError

CONFIG = "config.yaml"
GB = 1e9
LINEAR = {"q": "query", "k": "key", "v": "value", "o": "output", "gate": "gate", "up": "up", "down": "down"}
Say = Callable[[Iterable[str]], None]


def axes_of(text: str, n_devices: int) -> dict[str, int]:
    """Names and sizes of data=2,fsdp=4.

    Raises:
        UsageError: it names other axes, or another number of devices.
    """
    parts = re.fullmatch(r"(\w+=[1-9]\d{0,6})(,\w+=[1-9]\d{0,6})*", text)
    pairs = [part.split("=") for part in text.split(",")] if parts else []
    names, sizes = [name for name, _ in pairs], [int(size) for _, size in pairs]
    if not names or not set(names) <= set(AXES) or len(set(names)) < len(names) or math.prod(sizes) != n_devices:
        wanted = f"different axes among {', '.join(AXES)} whose product is the number of devices, {n_devices}"
        raise UsageError(f"expected --mesh to name {wanted}, got {text!r}")
    return dict(zip(names, sizes, strict=True))


def mesh_of(text: str | None, devices: Sequence[Any] | None = None) -> Mesh | None:
    """The mesh that data=2,fsdp=4 means, of all devices or the given ones; on a TPU neighbours lie side by side.

    Raises:
        UsageError: as of `axes_of`; or there is none, and several processes have to share their devices.
    """
    devices = jax.devices() if devices is None else devices
    if text is None and jax.process_count() > 1:
        wanted = f"--mesh over the {len(devices)} devices of all {jax.process_count()} processes"
        raise UsageError(f"expected {wanted}, such as --mesh fsdp={len(devices)}")
    if text is None:
        return None
    axes = axes_of(text, len(devices))
    return Mesh(arranged(tuple(axes.values()), devices), tuple(axes))


def arranged(sizes: tuple[int, ...], devices: Sequence[Any]) -> np.ndarray:
    """Devices in an array of these sizes, along which neighbours on a TPU's torus stay neighbours."""
    if devices[0].platform != "tpu":
        return np.array(devices).reshape(sizes)
    from jax.experimental import mesh_utils

    return mesh_utils.create_device_mesh(sizes, devices=list(devices), allow_split_physical_axes=True)


def work_of(options: Train | Plan, parts: int) -> Work:
    """What a round of these options does."""
    compute_dtype = options.compute_dtype or options.dtype or "bfloat16"
    named = (LINEAR.get(name.rpartition(".")[2].removesuffix("_proj")) for name in options.lora_target_modules)
    settings: dict[str, Any] = dict(each.split("=", 1) for each in options.set if "=" in each)
    return Work(
        prompts=options.prompts_per_round,
        group=options.num_generations or 16,
        prompt_length=options.max_prompt_length,
        new_tokens=options.max_new_tokens,
        epochs=options.num_iterations or 4,
        parts=parts,
        rounds=1 + (options.replay or 0),
        compute=Compute(compute_dtype, options.remat or "layer", options.attention),
        rank=options.lora_r,
        targets=tuple(name for name in named if name),
        given="float32" if options.dtype == "float32" else "bfloat16",
        first_moment=settings.get("first_moment", "float32"),
        watch_start=settings.get("watch_start") == "true",
    )


def chosen(options: Train, say: Say, judges: Sequence[str | Path] = ()) -> Train:
    """The options with a mesh and what is recomputed, on several accelerators where no mesh was typed.

    A run that goes on keeps the mesh it began with, as far as there are as many devices.

    Args:
        options: of the run.
        say: is told what is chosen.
        judges: folders or hub ids of its local judges.

    Raises:
        UsageError: nothing fits these devices.
    """
    n_devices, chip = len(policy_devices(options)), chip_of(jax.devices()[0].device_kind)
    if options.mesh is not None or n_devices == 1 or chip is None:
        return options
    if kept := _kept(options, n_devices):
        return replace(options, **kept)
    on_chips = on_the_policys_chips(options, judges)
    found = first_choice(options, Topology(chip, n_devices, f"{chip.name}:{n_devices}"), on_chips)
    needed = f"about {found.estimate.bytes / GB:.1f} of {chip.memory / GB:.1f} GB"
    say([f"{found.text()}: the fastest that fits {n_devices} x {chip.name}, {needed}"])
    return replace(
        options,
        mesh=found.axes.text() if found.axes.n_chips == n_devices else options.mesh,
        remat=options.remat or found.work.compute.remat,
        gradient_accumulation_steps=found.work.parts,
    )


def on_the_policys_chips(options: Train, judges: Sequence[str | Path]) -> tuple[LocalJudge, ...]:
    """What `judge_mesh` will do with local judges that have no devices of their own; the others are left out.

    Args:
        options: of the run.
        judges: folders or hub ids of its local judges.
    """
    n_devices = jax.local_device_count()
    if options.judge_mesh is not None and len(policy_devices(options)) < jax.device_count():
        return ()
    platform = jax.devices()[0].platform
    found = tuple(judge_at(judge, platform) for judge in judges)
    if options.judge_mesh is not None:
        return tuple(judge._replace(axes=as_axes(options.judge_mesh, n_devices)) for judge in found)
    if jax.process_count() > 1:
        return tuple(judge._replace(axes=fewest_copies(judge.architecture, n_devices)) for judge in found)
    return found


def judge_at(place: str | Path, platform: str) -> LocalJudge:
    """A local judge as it will be loaded and asked.

    Args:
        place: as of `llm_bridge.checkpoint.loading.architecture_at`, which also says what is raised.
        platform: "cpu", "gpu" or "tpu".
    """
    a, dtype = loading.architecture_at(place), loading.dtype_at(place)
    asked = not (Path(place) / preference_model.CONFIG).exists()
    rows = (GenerativeJudge if asked else preference_model.PreferenceModel).rows
    form = chosen_form("auto", platform, np.dtype(dtype), a.score_softcap, a.head_width)
    return LocalJudge(a, dtype, rows=rows, asked=asked, plain=form == "plain")


def first_choice(options: Train, topology: Topology, judges: tuple[LocalJudge, ...] = ()) -> Choice:
    """The fastest way to run these options that fits; in as many parts as typed, or in one, or more if it does not fit.

    Args:
        options: of the run.
        topology: its chips.
        judges: local ones on these chips.

    Raises:
        UsageError: nothing fits.
    """
    parts = options.gradient_accumulation_steps
    place = options.model_name_or_path
    adapter = (Path(place) / adapters.CONFIG).exists() and not (Path(place) / "config.json").exists()
    architecture = loading.architecture_at(adapters.look(place) if adapter else place, options.family)
    found: list[Choice] = []
    for allowed in [parts] if parts else [1, None]:
        work = replace(work_of(options, parts or 1), judges=judges)
        found = choices(architecture, topology, work, remat=options.remat, parts=allowed)
        if found and found[0].fits:
            return found[0]
    raise UsageError(too_large(found[0] if found else None, topology))


def too_large(least: Choice | None, topology: Topology) -> str:
    """What is said where nothing fits."""
    there = f"{topology.chip.memory / GB:.1f} GB are there on each of {topology.n_chips} x {topology.chip.name}"
    if least is None:
        return f"no mesh of {topology.n_chips} devices divides the model; take another number of them"
    needed = f"the least, {least.text()}, needs about {least.estimate.bytes / GB:.1f} GB"
    return f"nothing fits: {needed} and {there}; try an adapter (--lora-r 16), shorter answers, or more devices"


def _kept(options: Train, n_devices: int) -> dict[str, Any] | None:
    """What the run that goes on has chosen, if it is for so many devices."""
    import yaml

    path = options.output_dir / CONFIG
    if not options.resume or not path.exists():
        return None
    known = yaml.safe_load(path.read_text("utf-8"))
    names = ("mesh", "remat", "gradient_accumulation_steps")
    found = {name: known[name] for name in names if isinstance(known, dict) and known.get(name) is not None}
    sizes = [int(part.partition("=")[2]) for part in str(found.get("mesh", "")).split(",") if "=" in part]
    return found if sizes and math.prod(sizes) == n_devices else None


def as_axes(text: str, n_devices: int) -> Axes:
    """The sizes of all axes that data=2,fsdp=4 means.

    Raises:
        UsageError: as of `axes_of`.
    """
    return Axes(*({name: 1 for name in AXES} | axes_of(text, n_devices)).values())


def typed_axes(text: str) -> Axes:
    """What `--judge-mesh` means for as many devices as it multiplies to.

    Raises:
        UsageError: it names no axes, or other ones.
    """
    try:
        return as_axes(text, math.prod(map(int, re.findall(r"=(\d+)", text))))
    except UsageError:
        wanted = f"different axes among {', '.join(AXES)} with their sizes, as in fsdp=4"
        raise UsageError(f"expected --judge-mesh to name {wanted}, got {text!r}") from None


def judge_mesh(options: Any, architecture: Architecture) -> Mesh | None:
    """Where a local judge lies: where it was told to, or as the policy does, as far as that divides it.

    With `--judge-mesh` a judge has the devices that `--mesh` leaves, or shares all of them. Of several processes the
    first one asks, with its own devices.

    Raises:
        UsageError: the two meshes are of another number of devices, or the judge cannot be divided so.
    """
    text, typed = getattr(options, "mesh", None), options.judge_mesh
    devices = jax.local_devices() if jax.process_count() > 1 else jax.devices()
    if typed is not None:
        own = math.prod(
            int(part.partition("=")[2] or 0) for part in typed.split(",") if part.partition("=")[2].isdigit()
        )
        mesh = mesh_of(typed, devices[len(devices) - own :] if 0 < own < len(devices) else devices)
        assert mesh is not None
        if not divides(architecture, _sizes_of(mesh)):
            raise UsageError(f"--judge-mesh {typed} does not divide the judge evenly")
        return mesh
    if text is None:
        return None
    here = devices if jax.process_count() > 1 else policy_devices(options)
    like_it = mesh_of(text, here) if jax.process_count() == 1 else None
    if like_it is not None and divides(architecture, _sizes_of(like_it)):
        return like_it
    return Mesh(arranged(tuple(fewest_copies(architecture, len(here))), here), AXES)


def policy_devices(options: Any) -> list[Any]:
    """All devices, or those before the judge's own."""
    devices, typed = jax.devices(), getattr(options, "judge_mesh", None)
    sizes = re.findall(r"=(\d+)", typed or "")
    own = math.prod(map(int, sizes)) if sizes else 0
    return list(devices[: len(devices) - own] if 0 < own < len(devices) else devices)


def _sizes_of(mesh: Mesh) -> Axes:
    return Axes(*({name: 1 for name in AXES} | {str(name): n for name, n in mesh.shape.items()}).values())
