"""Which method the options of `mpo train` mean, with its numbers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields
from typing import Any

import jax

import mmd
from llm_bridge.command.options import Train
from llm_bridge.model.architecture import BridgeError
from llm_bridge.model.ranges import RANGES, SettingError
from llm_bridge.train import baselines
from llm_bridge.train.loop import FIRST_MOMENT, Method
from llm_bridge.train.mpo import EXPORTS, MPO
from llm_bridge.train.objective import PolicyGradient, Regression
from mmd.host.command_line import UsageError, rate_and_power
from mmd.host.doors import FORMS, Door, arguments, error_of, signature_of
from mmd.host.files import OutputError

MAGNETS = Door("magnets", BridgeError, "a mmd.Magnet, or a class that derives from it")
WORDS = {
    "exports": {name: name for name in EXPORTS},
    "first_moment": {name: name for name in FIRST_MOMENT},
    "watch_start": {"true": True, "false": False},
}
ESTIMATORS = {
    "policy-gradient": PolicyGradient(),
    "policy-gradient-with-credit": PolicyGradient(credit=True),
    "regression": Regression(),
}


def method_of(options: Train) -> Method:
    """The method with its numbers, without a judge.

    Raises:
        UsageError: there is no such method, or it has no such number.
        SettingError: numbers are out of their ranges, do not fit each other, or change nothing.
    """
    kind = baselines.load(options.method)
    parts = options.gradient_accumulation_steps or 1
    if options.prompts_per_round % parts:
        wanted = f"a divisor of the {options.prompts_per_round} prompts of a round"
        raise UsageError(f"expected --gradient-accumulation-steps to be {wanted}, got {parts}")
    given: dict[str, Any] = {
        "eta": options.eta,
        "alpha": options.alpha,
        "group_size": options.num_generations,
        "prompts_per_round": options.prompts_per_round,
        "opponents": options.opponents,
        "max_new_tokens": options.max_new_tokens,
        "epochs": options.num_iterations,
        "learning_rate": options.learning_rate,
        "schedule": options.lr_scheduler_type,
        "decay_rounds": options.max_steps,
        "warmup_rounds": options.warmup_steps,
        "weight_decay": options.weight_decay,
        "b1": options.adam_beta1,
        "b2": options.adam_beta2,
        "eps": options.adam_epsilon,
        "max_grad_norm": options.max_grad_norm,
        "prompts_at_a_time": None if parts == 1 else options.prompts_per_round // parts,
        "magnet": _magnet(options, kind),
        "replay": _replay(options, kind),
        "spread_draws": _spread(options, kind),
    }
    if options.weights is not None:
        given["exports"] = _exports(options, kind)
    if idle := [name for name in kind.unused if given[name] is not None]:
        raise SettingError(f"{options.method} takes no {{{idle[0]}}}, which would change nothing")
    if not options.temperature:
        raise SettingError("expected {temperature} > 0, got 0: a policy without chance has nothing to compare")
    if options.warmup_steps >= options.max_steps:
        raise UsageError(f"expected --warmup-steps < --max-steps = {options.max_steps}, got {options.warmup_steps}")
    further = _further(options, kind, set(given))
    settings = {name: value for name, value in given.items() if value is not None} | further
    made = {"kind": kind, "settings": settings, "rounds": options.max_steps}
    return baselines.DOOR.called(options.method, _made, made) if baselines.is_outside(options.method) else _made(**made)


def _made(kind: type[Method], settings: Mapping[str, Any], rounds: int) -> Method:
    """A method, its settings checked."""
    method = kind(**settings)
    method.check_settings()
    method.check_result(rounds)
    return method


class MethodError(BridgeError):
    """A method from outside this package has raised an error in a run. The error itself is the cause, `__cause__`.

    Args:
        name: the method's.
        error: what it raised.
    """

    def __init__(self, name: str, error: BaseException) -> None:
        super().__init__(f"method {name}: raised {error_of(error)}")
        self.error = error


@contextmanager
def errors_of(name: str) -> Iterator[None]:
    """Inside, an error of a method from outside becomes a `MethodError`; the device's own errors stay.

    Args:
        name: the method's, as typed.
    """
    try:
        yield
    except (BridgeError, OutputError, UsageError, jax.errors.JaxRuntimeError):
        raise
    except (Exception, SystemExit) as error:
        if not baselines.is_outside(name):
            raise
        raise MethodError(name, error) from error


def _replay(options: Train, kind: type[Method]) -> int | None:
    """What `--replay` says."""
    if options.replay and not issubclass(kind, MPO):
        raise UsageError(f"{options.method} keeps no answers of earlier rounds, so it takes no --replay")
    return options.replay if issubclass(kind, MPO) else None


def _spread(options: Train, kind: type[Method]) -> bool | None:
    """What `--spread-draws` says."""
    if options.spread_draws and not issubclass(kind, MPO):
        raise UsageError(f"{options.method} learns from all pairs of a group, so it takes no --spread-draws")
    return options.spread_draws if issubclass(kind, MPO) else None


def _exports(options: Train, kind: type[Method]) -> str | None:
    """What `--weights` chooses."""
    if not issubclass(kind, MPO):
        raise UsageError(f"{options.method} has one set of weights, so --weights cannot choose")
    if any(text.startswith("exports=") for text in options.set):
        raise UsageError("expected --weights or --set exports=, got both")
    return options.weights


def _further(options: Train, kind: type[Method], others: set[str]) -> dict[str, Any]:
    """What `--set` says: numbers in their ranges, and words that stand for something else."""
    words = WORDS | ({"estimator": ESTIMATORS} if kind is MPO else {})
    names = {field.name for field in fields(kind)} - others
    own = signature_of(kind) if baselines.is_outside(options.method) else {}
    known = sorted(name for name in names - {"judge", "engine"} if name in words or name in RANGES or name in own)
    found: dict[str, Any] = {}
    for text in options.set:
        name, _, value = text.partition("=")
        name = name.replace("-", "_")
        if name not in known:
            raise UsageError(f"{options.method} has no {name!r} to --set, expected {', '.join(known)} as NAME=VALUE")
        if name not in words and name not in RANGES:
            found |= arguments(options.method, own, f"{name}={value}", UsageError)
            continue
        found[name] = words[name].get(value.replace("_", "-")) if name in words else _number(name, value)
        if found[name] is None:
            wanted = f"one of {', '.join(words[name])}" if name in words else "a number"
            raise UsageError(f"expected --set {name}= to be {wanted}, got {value!r}")
    return found


def _number(name: str, text: str) -> int | float | None:
    """What a text says, if it is such a number."""
    with suppress(ValueError):
        return int(text) if RANGES[name].whole else float(text)
    return None


def _magnet(options: Train, kind: type[Method]) -> Any:
    """The magnet that is asked for; None for the method's own."""
    moves = {field.name for field in fields(kind)} >= {"magnet"}
    if options.magnet is None:
        return mmd.Refresh(every=40) if kind is MPO and options.lora_r else None
    if not moves:
        raise UsageError(f"{options.method} has no magnet that moves, so it takes no --magnet")
    name, _, number = options.magnet.partition("=")
    try:
        match name, number:
            case "fixed", "":
                return mmd.Fixed()
            case "refresh", every if int(every) >= 1:
                return mmd.Refresh(every=int(every))
            case "moving", numbers:
                rate, power = rate_and_power(numbers)
                return mmd.MovingAverage(rate=rate, power=power)
    except ValueError:
        pass
    if MAGNETS.is_outside(options.magnet):
        return MAGNETS.made(options.magnet, mmd.Magnet)
    known = (
        "fixed, refresh=40 (rounds >= 1), moving=0.025 or moving=0.05,power=4 (a rate in (0, 1], a power >= 0), or one "
        f"from outside ({FORMS})"
    )
    raise UsageError(f"expected --magnet to be {known}, got {options.magnet!r}")
