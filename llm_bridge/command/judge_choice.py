"""Which judge the options mean, or which group of judges, and whether it can do its work."""

import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from llm_bridge import judges
from llm_bridge.checkpoint import loading
from llm_bridge.command.mesh_choice import judge_mesh
from llm_bridge.command.options import Judging
from llm_bridge.judges import dry_run, preference_model
from llm_bridge.judges.generative import CRITERION, GenerativeJudge
from llm_bridge.judges.http import HttpJudge
from llm_bridge.judges.population import Population
from llm_bridge.model.architecture import BridgeError
from llm_bridge.model.tensor_files import HUB_ID
from llm_bridge.text.tokenizer import tokenizer_of
from mmd.host.doors import FORMS

KINDS = (
    "a folder of mpo train-judge, a model's folder or hub id, http(s)://host/v1, or a function as "
    f"{FORMS.replace(', ', ' or ')}"
)
# Options of a judge over HTTP that are attributes of `HttpJudge`, and those that are not.
OF_HTTP = {
    "judge_key_variable": "key_variable",
    "judge_concurrency": "concurrency",
    "judge_timeout": "timeout",
    "judge_field": "reply_field",
    "judge_max_tokens": "max_tokens",
}
EACH = ("judge_model", "judge_key_variable")  # of which there may be one for each judge over HTTP
ONLY_OF_HTTP = ("judge_model", "judge_request_fields", *OF_HTTP)
OF_GROUPS = ("judge_weights", "judge_aggregation")
SEVERAL = ("judge", "judge_model", "judge_criterion", "judge_key_variable", "judge_weights")
# What version 0.1 wrote into every run's config.yaml, whatever the judge was; it is no news to any judge.
ALWAYS_WRITTEN = {"judge_key_variable": ("OPENAI_API_KEY",), "judge_concurrency": 8, "judge_timeout": 60.0}


class _Member(NamedTuple):
    """A judge that has been found and not loaded yet.

    Attributes:
        name: in reports.
        make: loads it.
    """

    name: str
    make: Callable[[], Any]


def named(options: Judging) -> list[str]:
    """The options about a judge that are given."""
    names = ("judge", *OF_GROUPS, *ONLY_OF_HTTP, "judge_criterion")
    return [name for name in names if getattr(options, name) not in (None, (), ALWAYS_WRITTEN.get(name))]


def recorded(options: Any) -> dict[str, Any]:
    """The options about judges of which there may be several, as files have them: none is None, a single one itself."""
    given = {name: getattr(options, name) for name in SEVERAL if hasattr(options, name)}
    return {name: list(value) if len(value) > 1 else value[0] if value else None for name, value in given.items()}


def judged_by(options: Judging) -> dict[str, Any]:
    """The judge, or the judges with their weights, for a report."""
    weights = {"judge_weights": list(options.judge_weights)} if options.judge_weights else {}
    return {"judge": recorded(options)["judge"], **weights}


def judge_of(options: Judging) -> Any:
    """The judge that the options name, which compares texts; files and tokenizers are checked before weights are read.

    Several judges, or several criteria of one that is asked, are a population.

    Raises:
        BridgeError: there is none of this name, it cannot be loaded, or an option would change nothing.
    """
    if not options.judge:
        raise BridgeError(f"--judge is needed: {KINDS}")
    given, shown = named(options), " ".join(options.judge)
    endpoints = [name for name in options.judge if "://" in name]
    if not endpoints and (idle := [option for option in given if option in ONLY_OF_HTTP]):
        raise BridgeError(f"{_flag(idle[0])} is for a judge over HTTP, expected --judge http(s)://host/v1, got {shown}")
    for option in EACH:
        if (n := len(getattr(options, option))) > 1 and n != len(endpoints):
            wanted = f"one for all judges over HTTP or one for each of the {len(endpoints)}"
            raise BridgeError(f"expected {_flag(option)} to have {wanted}, got {n}")
    found = [member for i in range(len(options.judge)) for member in _members(i, options)]
    if not any(is_asked for _, is_asked in found) and "judge_criterion" in given:
        wanted = "http(s)://host/v1 or a model's folder"
        raise BridgeError(f"--judge-criterion is for a judge that is asked, expected --judge {wanted}, got {shown}")
    members = [member for member, _ in found]
    if len(members) == 1 and (idle := [option for option in given if option in OF_GROUPS]):
        raise BridgeError(f"{_flag(idle[0])} is for several judges, expected --judge with more than one, got {shown}")
    if options.judge_weights and len(options.judge_weights) != len(members):
        listed = ", ".join(member.name for member in members)
        got = f"{len(options.judge_weights)} for {len(members)} ({listed})"
        raise BridgeError(f"expected --judge-weights to have a number for each judge and criterion, got {got}")
    return members[0].make() if len(members) == 1 else _group(members, options)


def _group(members: Sequence[_Member], options: Judging) -> Population:
    """All of them as one judge."""
    return Population(
        [member.make() for member in members],
        options.judge_weights or None,
        [member.name for member in members],
        aggregation=options.judge_aggregation or "draw",
        seed=getattr(options, "seed", 0),
    )


def _members(i: int, options: Judging) -> list[tuple[_Member, bool]]:
    """The judges that a name means, and whether they are asked a question: one for each criterion then."""
    name = options.judge[i]
    if name.endswith(".py"):
        raise BridgeError(f"judge {name}: expected the name of a function in that file as well: {name}:NAME")
    if "://" in name:
        judge = _of_endpoint(i, options)
        criteria = options.judge_criterion or (CRITERION,)
        return [
            (_Member(_label(judge.name, options, criterion), partial(replace, judge, criterion=criterion)), True)
            for criterion in criteria
        ]
    if trained := _trained(name):
        mesh = judge_mesh(options, loading.architecture_at(trained))
        return [(_Member(name, partial(preference_model.load, trained, mesh=mesh)), False)]
    if _is_outside(name):
        judge = judges.load(name)
        return [(_Member(name, lambda: judge), False)]
    return [(member, True) for member in _of_model(name, options)]


def local(options: Judging) -> list[str | Path]:
    """Folders or hub ids of the judges that are models here; a name that is no judge is left for `judge_of`."""
    others = [name for name in options.judge if "://" not in name and not _is_outside(name) and _is_model(name)]
    return [_trained(name) or name for name in others]


def _trained(name: str) -> Path | None:
    """The folder of a judge of mpo train-judge, which may be that of its run."""
    folders = (Path(name), Path(name) / "policy")
    return next((folder for folder in folders if (folder / preference_model.CONFIG).exists()), None)


def _is_outside(name: str) -> bool:
    """Whether it is a function, and nothing that is here."""
    return not Path(name).exists() and judges.DOOR.is_outside(name)


def _is_model(name: str) -> bool:
    """Whether a model may be there."""
    return Path(name).exists() or (bool(re.fullmatch(HUB_ID, name)) and not Path(name).parent.exists())


def _label(name: str, options: Judging, criterion: str) -> str:
    """What a judge that is asked is called in reports, where there may be several criteria or several judges."""
    if len(options.judge_criterion) < 2:
        return name
    return criterion if len(options.judge) == 1 else f"{name}: {criterion}"


def try_out(judge: Any, prompts: Sequence[str]) -> None:
    """Try a judge on three pairs of short answers to these prompts, and come back to the folder of before.

    Raises:
        BridgeError: it cannot do its work.
    """
    here = os.getcwd()
    try:
        dry_run(judge, prompts)
    finally:
        os.chdir(here)


def _of_endpoint(i: int, options: Judging) -> HttpJudge:
    if not options.judge_model:
        raise BridgeError("a judge over HTTP needs --judge-model, its name at the endpoint")
    number = sum("://" in name for name in options.judge[:i])
    models, keys = (getattr(options, name) for name in EACH)
    given = {attribute: getattr(options, name) for name, attribute in OF_HTTP.items()}
    given["key_variable"] = keys[number if len(keys) > 1 else 0] if keys else None
    return HttpJudge(
        options.judge[i],
        models[number if len(models) > 1 else 0],
        fields=_request_fields(options.judge_request_fields),
        tell=lambda text: sys.stderr.write(f"mpo: {text}\n"),
        **{attribute: value for attribute, value in given.items() if value is not None},
    )


def _request_fields(text: str | None) -> dict[str, Any]:
    """What an option says in JSON."""
    try:
        found = {} if text is None else json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BridgeError(
            f"expected --judge-request-fields to be a JSON object, such as '{{\"seed\": 0}}', got {text!r}"
        )
    return found


def _of_model(name: str, options: Judging) -> list[_Member]:
    """A model that is asked, once for each criterion; its weights are read once."""
    if not _is_model(name):
        raise BridgeError(f"--judge {name}: there is no such judge, expected {KINDS}")
    folder, architecture = loading.look(name)
    if (own := tokenizer_of(str(folder))) is None:
        raise BridgeError(f"--judge {name}: has no tokenizer, so it cannot be asked")
    words = own
    policy = cache(lambda: loading.load(name, mesh=judge_mesh(options, architecture)))

    def member(criterion: str) -> _Member:
        return _Member(_label(name, options, criterion), lambda: GenerativeJudge(policy(), words, criterion))

    return [member(criterion) for criterion in options.judge_criterion or (CRITERION,)]


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"
