"""The ranges of all numbers that a user may set, as options of `mpo` and as attributes in Python.

Imports nothing heavy. A number means the same under both names, so it has one range: `RANGES`, by the name in Python
where there is one. NaN and infinity are in none of them, nor is what float32 cannot hold.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from llm_bridge.model.architecture import BridgeError

SMALLEST, LARGEST = 2.0**-126, 2.0**127  # of float32, in which runs compute
MOST_OF_WHOLE = 2**31 - 1
NAMED = re.compile(r"\{(\w+)\}")


class SettingError(BridgeError):
    """A setting is out of its range, or two do not fit each other.

    In the sentence it is made of, `{name}` stands for a setting, which Python and a command call by different names.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(NAMED.sub(r"\1", sentence))
        self._sentence = sentence

    def called(self, rename: Callable[[str], str]) -> str:
        """The sentence with other names."""
        return NAMED.sub(lambda match: rename(match[1]), self._sentence)


class Range(NamedTuple):
    """Numbers from `least` to `most`.

    Attributes:
        least, most: the ends.
        above, below: whether the ends themselves are out.
        whole: whether it has integers only.
    """

    least: float
    most: float = math.inf
    above: bool = False
    below: bool = False
    whole: bool = False

    def complaint(self, name: str, value: Any, *, optional: bool = False) -> str | None:
        """What is wrong with a value, as a sentence with `{name}`; None if nothing is."""
        number, wanted = _number(value), self._bounds("{" + name + "}") + optional * " or None"
        if number is None or (self.whole and isinstance(number, float)):
            kind = "an integer" if self.whole else "a number"
            return f"expected {wanted.replace('}', f'}} to be {kind}', 1)}, got {value!r}"
        if self.whole and number > (most := self._most()):
            return f"expected {{{name}}} <= {most}, got {value!r}"
        inside = self.least <= number <= self.most and not (self.above and number == self.least)
        if not inside or (self.below and number == self.most) or abs(number) > LARGEST:
            return f"expected {wanted}{' and finite in float32' * (abs(number) > LARGEST)}, got {value!r}"
        if 0 < abs(number) < SMALLEST:
            return f"expected {{{name}}} to be 0 or at least {SMALLEST:.2g}, got {value!r}"
        return None

    def _most(self) -> int:
        return MOST_OF_WHOLE if self.most == math.inf else int(self.most)

    def _bounds(self, name: str) -> str:
        if self.whole or self.most == math.inf:
            return f"{name} {'>' if self.above else '>='} {self.least:g}"
        return f"{self.least:g} {'<' if self.above else '<='} {name} {'<' if self.below else '<='} {self.most:g}"


ANY, POSITIVE, COUNT, DECAY = Range(0), Range(0, above=True), Range(1, whole=True), Range(0, 1, below=True)
SHARE, POSITIVE_SHARE = Range(0, 1), Range(0, 1, above=True)
RANGES = {
    # what all methods have
    "eta": POSITIVE,
    "alpha": ANY,
    "group_size": COUNT,
    "prompts_per_round": COUNT,
    "opponents": COUNT,
    "max_new_tokens": COUNT,
    "epochs": COUNT,
    "learning_rate": POSITIVE,
    "decay_rounds": COUNT,
    "warmup_rounds": Range(0, whole=True),
    "weight_decay": ANY,
    "b1": DECAY,
    "b2": DECAY,
    "eps": POSITIVE,
    "max_grad_norm": POSITIVE,
    "prompts_at_a_time": COUNT,
    # of one method, of magnets
    "replay": Range(0, whole=True),
    "share": SHARE,
    "rate": POSITIVE_SHARE,
    "power": ANY,
    "every": COUNT,
    "strength": ANY,
    # a run
    "max_steps": COUNT,
    "steps": Range(0, whole=True),  # of `fit`, rounds that are behind included
    "eval_steps": COUNT,
    "eval_share": Range(0, 1, below=True),
    "save_steps": COUNT,
    "save_minutes": ANY,
    "save_total_limit": COUNT,
    "gradient_accumulation_steps": COUNT,
    "max_prompt_length": COUNT,
    "seed": Range(0, 2**32 - 1, whole=True),  # JAX has 32 bits of it
    "rank": Range(0, whole=True),  # of an adapter, 0 for none
    "lora_alpha": POSITIVE,
    # judges
    "num_train_epochs": POSITIVE,
    "per_device_train_batch_size": COUNT,
    "max_length": COUNT,
    "clip": POSITIVE,
    "concurrency": COUNT,
    "timeout": POSITIVE,
    "max_tokens": COUNT,
    "patience": ANY,
    "scale": POSITIVE,
    "repeats": COUNT,
    # engines
    "max_staleness": Range(0, whole=True),
    "engine_timeout": POSITIVE,
    # drawing
    "temperature": ANY,
    "top_p": POSITIVE_SHARE,
    "top_k": COUNT,
    "batch_size": COUNT,
    # a plan
    "batch": COUNT,
    "price": POSITIVE,
    # a server
    "port": Range(1, 65535, whole=True),
    "answers": COUNT,
}
IN_PYTHON = {
    "num_generations": "group_size",
    "num_iterations": "epochs",
    "warmup_steps": "warmup_rounds",
    "adam_beta1": "b1",
    "adam_beta2": "b2",
    "adam_epsilon": "eps",
    "judge_concurrency": "concurrency",
    "judge_timeout": "timeout",
    "judge_max_tokens": "max_tokens",
    "lora_r": "rank",
}
OF_MAGNETS = ("every", "rate", "power", "strength")
OPTION = {name: option for option, name in IN_PYTHON.items()} | {
    "exports": "weights",
    "schedule": "lr_scheduler_type",
}


def require(name: str, value: Any, *, optional: bool = False) -> None:
    """That a number is in its range.

    Args:
        name: in `RANGES`.
        value: the number.
        optional: whether None is as good.

    Raises:
        SettingError: it is not.
    """
    if value is None and optional:
        return
    if complaint := RANGES[name].complaint(name, value, optional=optional):
        raise SettingError(complaint)


def flags(options: Any) -> Callable[[str], str]:
    """How a setting is typed, where these are the options of a command; what has none of its own goes to `--set`."""
    known = {field.name for field in fields(options)}

    def flag(name: str) -> str:
        option = OPTION.get(name, name)
        if name in OF_MAGNETS:
            return f"--magnet {name}"
        return f"--{option.replace('_', '-')}" if option in known else f"--set {name}"

    return flag


def complaints(options: Any) -> Iterator[str]:
    """What is wrong with the numbers of a command, each a sentence."""
    for field in fields(options):
        name, value = IN_PYTHON.get(field.name, field.name), getattr(options, field.name)
        if (
            name in RANGES
            and value is not None
            and not isinstance(value, Path)
            and (found := RANGES[name].complaint(name, value))
        ):
            yield SettingError(found).called(flags(options))


def _number(value: Any) -> int | float | None:
    """A value as a number of Python; None if it is none."""
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
