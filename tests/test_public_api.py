"""Public names, their signatures and the options of commands change on purpose, or not at all."""

import difflib

from tests import public_api


def test_what_users_rely_on_is_what_is_listed() -> None:
    listed, now = public_api.LIST.read_text("utf-8").splitlines(), public_api.text().splitlines()
    changed = [line for line in difflib.unified_diff(listed, now, "listed", "now", lineterm="", n=0)]
    wanted = "expected no change for users; one that is meant goes into CHANGELOG.md, then python -m tests.public_api"
    assert not changed, "\n".join([wanted, *changed])


def test_every_public_name_is_found_in_the_sources() -> None:
    """So that no name is listed without its signature."""
    for name in public_api.public_names():
        assert public_api.definitions(*public_api.home(name)), name


def test_a_changed_default_is_seen() -> None:
    """By hand: what `mmd.Refresh` looks like in the list, and what it inherits."""
    lines = public_api.text().split("\nmmd.Refresh: ")[1].split("\nmmd.")[0].splitlines()
    assert lines[0] == "class(Magnet)"
    assert "    center: Any = 'dilated'" in lines
    assert any(line.startswith("    every: ") for line in lines)
