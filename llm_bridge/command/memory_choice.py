"""Whether a run fits into memory, in how many parts its rounds do, and which options need less."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import jax
import numpy as np

from llm_bridge.command.judge_choice import local
from llm_bridge.command.mesh_choice import on_the_policys_chips
from llm_bridge.command.options import Train
from llm_bridge.plan import memory
from llm_bridge.plan.work import LocalJudge
from llm_bridge.policy.generate import bucket
from llm_bridge.policy.policy import Policy
from llm_bridge.run.processes import told
from llm_bridge.train.baselines.sft import SFT
from llm_bridge.train.loop import Method

Say = Callable[[Iterable[str]], None]


def fitted(options: Train, policy: Policy, method: Method, longest: int, say: Say) -> tuple[Train, Method]:
    """Options and method in the number of parts that was typed, or in the fewest that fit; what they need is said.

    Args:
        options: of the run.
        policy: where it begins.
        method: as the options have it.
        longest: tokens of the longest prompt with its answer.
        say: prints lines.

    Raises:
        BridgeError: it does not fit; the message names options that need less.
    """
    judges = on_the_policys_chips(options, local(options))
    each = {n: _in_parts(method, n) for n in _divisors(method.prompts_per_round)}
    budgets = {n: _budget(policy, in_parts, longest, judges) for n, in_parts in each.items()}
    parts = options.gradient_accumulation_steps or _fewest(budgets)
    if parts > 1 and options.gradient_accumulation_steps is None:
        needed = f"all at once would need about {budgets[1].total / memory.GIB:.2f} GiB"
        say([f"prompts of a round are learned from in {parts} parts (--gradient-accumulation-steps {parts}): {needed}"])
    say(budgets[parts].lines())
    budgets[parts].check([*_more_parts(budgets, parts), *thriftier(policy), "a smaller --max-new-tokens"])
    return replace(options, gradient_accumulation_steps=parts), _in_parts(method, parts)


def thriftier(policy: Policy) -> list[str]:
    """Options with which training this policy needs less memory, as far as they are not taken already."""
    found = [] if policy.decoder.compute.remat != "none" else ["--gradient-checkpointing"]
    return found if policy.is_adapted else [*found, "an adapter (--lora-r 8)"]


def _fewest(budgets: dict[int, memory.Budget]) -> int:
    """The fewest parts that fit, by the first process's memory; 1 where none do."""
    found = next((n for n, budget in budgets.items() if budget.fits), 1)
    return int(told(np.array([found], np.int32))[0]) if jax.process_count() > 1 else found


def _more_parts(budgets: dict[int, memory.Budget], parts: int) -> Iterator[str]:
    """More parts than these, where they need less: the fewest that fit, or as many as there can be."""
    more = [n for n, budget in budgets.items() if n > parts and budget.total < budgets[parts].total]
    if more:
        n = next((n for n in more if budgets[n].fits), more[-1])
        yield f"--gradient-accumulation-steps {n} (needs about {budgets[n].total / memory.GIB:.2f} GiB)"


def _divisors(n: int) -> list[int]:
    return [i for i in range(1, n + 1) if n % i == 0]


def _in_parts(method: Method, parts: int) -> Method:
    return replace(method, prompts_at_a_time=None if parts == 1 else method.prompts_per_round // parts)


def _budget(policy: Policy, method: Method, longest: int, judges: tuple[LocalJudge, ...] = ()) -> memory.Budget:
    learned = (method.prompts_at_a_time or method.prompts_per_round) * method.group_size
    drawn = 0 if isinstance(method, SFT) else method.prompts_per_round * method.group_size
    answers, group = (bucket(method.max_new_tokens, 1), method.group_size) if drawn else (None, 1)
    rows = memory.Rows(longest, learned, drawn, answers, group, method.rounds_at_once)
    copies, moments = 1 + method.has_magnet + method.watch_start, 1 + np.dtype(method.first_moment).itemsize / 4
    return memory.training(policy, rows, copies, moments, kept=policy.is_adapted, judges=judges)
