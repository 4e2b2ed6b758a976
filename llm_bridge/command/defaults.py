"""The numbers of `mpo train` that are not given, by what is trained and how long answers are.

Reasons, measured or known:

learning rate   1 / sqrt(n) of n trained weights, at most 1e-3. Adam moves each weight by about the learning rate, so a
                step has the length 1 whatever is trained. It is 6.4e-4 for an adapter of rank 8 on SmolLM2-135M (1e-3
                was used where it learned, and 1e-5 moved nothing), 2e-4 for one on a model of 7 billion (what PEFT's
                users take), 9.7e-4 for all weights of the demonstration's Llama (1e-3 there), 1.2e-5 for all of 7
                billion.
eta             the most tokens of an answer. The pull to the round's first policy is 1 / eta per nat of a *whole*
                answer, so a token may move by a nat for each unit of win rate. 0.4, the methods' own, was measured on
                answers of a few tokens; with answers of 48 the demonstration's search found 3 too small, and 100 best.
alpha           eta alpha = 0.2, as in that search.
magnet          a period of T rounds with T eta alpha = 1.6, and a rate h with eta alpha / h = 1.6
                (`llm_bridge.train.mpo`): refresh=8 for adapters, moving=0.125 for whole weights.

A method that has numbers of its own keeps them, and a run that is resumed keeps those with which it began.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from llm_bridge.command.options import Train
from llm_bridge.policy.policy import Policy
from llm_bridge.text.held_out import enough
from llm_bridge.train import baselines
from llm_bridge.train.loop import Method
from llm_bridge.train.mpo import MPO
from llm_bridge.train.schedule import usual_rate

PULL = 0.2
REFRESH, MOVING = "refresh=8", "moving=0.125"
HELD_OUT_SHARE = 0.1
NUMBERS = ("learning_rate", "eta", "alpha", "magnet", "gradient_accumulation_steps")
NOTHING: Mapping[str, Any] = MappingProxyType({})


def share_of(options: Train, begun: Mapping[str, Any], n_prompts: int) -> Train:
    """The options with the share of the prompts that is held out; a run of version 0.1 held out none.

    Args:
        options: of the run.
        begun: what it began with, if it goes on (`RunState.begun_as`).
        n_prompts: distinct prompts there are.
    """
    share = begun.get("eval_share", 0.0) if begun else enough(HELD_OUT_SHARE, n_prompts)
    return replace(options, eval_share=share) if options.eval_share is None else options


def resolved(options: Train, policy: Policy, begun: Mapping[str, Any] = NOTHING) -> Train:
    """The options with the numbers that were not given.

    Args:
        options: of the run.
        policy: where it begins.
        begun: as in `share_of`.
    """
    kind = baselines.load(options.method)
    found: dict[str, Any] = {"learning_rate": usual_rate(policy.n_trained)}
    if _is_general(kind, "eta"):
        found["eta"] = float(options.max_new_tokens)
        if _is_general(kind, "alpha"):
            found["alpha"] = PULL / (options.eta or found["eta"])
    if kind is MPO:
        found["magnet"] = REFRESH if policy.is_adapted else MOVING
    found |= {name: begun[name] for name in NUMBERS if name in begun}
    return replace(options, **{name: value for name, value in found.items() if getattr(options, name) is None})


def _is_general(kind: type[Method], name: str) -> bool:
    """Whether a method uses a number, and has no default of its own for it."""
    return name not in kind.unused and getattr(kind, name, None) == getattr(Method, name)


def lines(options: Train, method: Method, policy: Policy) -> Iterable[str]:
    """What is trained and how, in numbers, for the beginning of a run."""
    n = policy.n_trained
    what = f"an adapter of {n:,} weights" if policy.is_adapted else f"all {n:,} weights"
    rate = f"learning rate {options.learning_rate:.3g}, {options.lr_scheduler_type}"
    rise = f" after {options.warmup_steps} rounds of warm-up" if options.warmup_steps else ""
    decay = f", weight decay {options.weight_decay:g}" if options.weight_decay else ""
    again = f" on the answers of the last {n} rounds" if (n := method.rounds_at_once) > 1 else ""
    yield f"{options.method} trains {what}; {rate}{rise}{decay}, {method.epochs} steps a round{again}"
    used = {"eta": method.eta, "alpha": method.alpha}
    shown = [f"{name} {value:.3g}" for name, value in used.items() if name not in method.unused]
    shown += [f"magnet {options.magnet}"] if options.magnet else []
    drawn = f"{method.prompts_per_round} prompts a round"
    warm = f" at temperature {options.temperature:g}" * (options.temperature != 1)
    drawn += f", {method.group_size} answers each, of at most {method.max_new_tokens} tokens{warm}" * (
        method.group_size > 1
    )
    yield "; ".join([", ".join(shown), drawn] if shown else [drawn])
