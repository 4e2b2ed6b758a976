"""One folder of checkpoints for all tests of policies; and few pictures."""

from pathlib import Path

import pytest

from llm_bridge.run import picture


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(autouse=True)
def few_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture takes half a second at the end of a hundred runs; those of tests marked `pictured` are drawn."""
    if "pictured" not in request.keywords:
        monkeypatch.setattr(picture, "draw", lambda *_: [])
