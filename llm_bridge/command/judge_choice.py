"""Which judge an option means, and whether it can do its work."""

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llm_bridge import judges
from llm_bridge.checkpoint import loading
from llm_bridge.command.options import Judging
from llm_bridge.judges import dry_run, preference_model
from llm_bridge.judges.generative import CRITERION, GenerativeJudge
from llm_bridge.judges.http import HttpJudge
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
    "judge_criterion": "criterion",
}
ONLY_OF_HTTP = ("judge_model", "judge_request_fields", *(name for name in OF_HTTP if name != "judge_criterion"))
# What version 0.1 wrote into every run's config.yaml, whatever the judge was; it is no news to any judge.
ALWAYS_WRITTEN = {"judge_key_variable": "OPENAI_API_KEY", "judge_concurrency": 8, "judge_timeout": 60.0}


def named(options: Judging) -> list[str]:
    """The options about a judge that are given."""
    names = ("judge", *ONLY_OF_HTTP, "judge_criterion")
    return [name for name in names if getattr(options, name) not in (None, ALWAYS_WRITTEN.get(name))]


def judge_of(options: Judging) -> Any:
    """The judge that the options name, which compares texts; files and tokenizer are checked before weights are read.

    Raises:
        BridgeError: there is none of this name, it cannot be loaded, or an option would change nothing.
    """
    name = options.judge
    if name is None:
        raise BridgeError(f"--judge is needed: {KINDS}")
    if "://" in name:
        return _of_endpoint(name, options)
    if idle := [option for option in named(options) if option in ONLY_OF_HTTP]:
        raise BridgeError(f"{_flag(idle[0])} is for a judge over HTTP, expected --judge http(s)://host/v1, got {name}")
    folders = (Path(name), Path(name) / "policy")  # the second one is that of a run of mpo train-judge
    trained = next((folder for folder in folders if (folder / preference_model.CONFIG).exists()), None)
    function = trained is None and not Path(name).exists() and judges.DOOR.is_outside(name)
    if options.judge_criterion is not None and (trained or function):
        wanted = "http(s)://host/v1 or a model's folder"
        raise BridgeError(f"--judge-criterion is for a judge that is asked, expected --judge {wanted}, got {name}")
    if trained:
        return preference_model.load(trained)
    return judges.load(name) if function else _of_model(name, options)


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


def _of_endpoint(endpoint: str, options: Judging) -> HttpJudge:
    if not options.judge_model:
        raise BridgeError("a judge over HTTP needs --judge-model, its name at the endpoint")
    given = {attribute: getattr(options, name) for name, attribute in OF_HTTP.items()}
    return HttpJudge(
        endpoint,
        options.judge_model,
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


def _of_model(name: str, options: Judging) -> GenerativeJudge:
    """A model that is asked."""
    if not Path(name).exists() and (not re.fullmatch(HUB_ID, name) or Path(name).parent.exists()):
        raise BridgeError(f"--judge {name}: there is no such judge, expected {KINDS}")
    folder, _ = loading.look(name)
    if (words := tokenizer_of(str(folder))) is None:
        raise BridgeError(f"--judge {name}: has no tokenizer, so it cannot be asked")
    return GenerativeJudge(loading.load(name), words, options.judge_criterion or CRITERION)


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"
