"""The way of one prompt to its gradient is as short as `docs/explanation/way-of-a-prompt.md` says."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import jax
import pytest

import llm_bridge as bridge
from llm_bridge.train import loop, objective
from tests.llm.games import PROMPTS, SIZES, SumJudge, policy
from tests.llm.test_baselines import Recorder

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "explanation" / "way-of-a-prompt.md"
SOURCES = (ROOT / "llm_bridge", ROOT / "mmd")


class Arrived(Exception):
    """The loss of a token is reached; its argument is the names of the functions on the way, `fit` first."""


class Drawn(Recorder):
    """The same arena in place of a sampler and a judge."""

    def metrics(self) -> dict[str, float]:
        return {}


def callers() -> Iterator[str]:
    """Functions of both packages that are being run, the outermost last."""
    frame = sys._getframe(1)
    while frame is not None:
        if any(source in Path(frame.f_code.co_filename).parents for source in SOURCES):
            yield frame.f_code.co_name
        frame = frame.f_back


def test_the_page_lists_every_function_between_fit_and_the_loss_of_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is traced, and nothing of it compiled: the way ends where it is called."""

    def arrived(*_: Any) -> NoReturn:
        raise Arrived(*callers())

    monkeypatch.setattr(objective, "sampled_objective", arrived)
    monkeypatch.setattr(loop, "Rollout", lambda *_: Drawn())
    with pytest.raises(Arrived) as found:
        bridge.MPO(SumJudge(), **SIZES).fit(policy(), PROMPTS, steps=1, key=jax.random.key(0))
    way = ["sampled_objective", *found.value.args]
    assert way[-1] == "fit"
    listed = re.findall(r"^\d\. `(?:\w+\.)?(\w+)`", PAGE.read_text("utf-8"), re.MULTILINE)
    assert list(reversed(way[:-1])) == listed
    assert len(listed) <= 8


def test_within_the_bridge_a_name_of_a_class_or_a_type_stands_for_one_thing() -> None:
    homes: dict[str, list[str]] = {}
    for path in (ROOT / "llm_bridge").rglob("*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:
            alias = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id
            name = node.name if isinstance(node, ast.ClassDef) else alias or ""
            if re.fullmatch(r"[A-Z]+[a-z]\w*", name):
                meaning = "" if isinstance(node, ast.ClassDef) else ast.unparse(node)
                homes.setdefault(name, []).append(meaning or path.name)
    assert len(homes) > 60
    assert not {name: places for name, places in homes.items() if len(set(places)) > 1}
