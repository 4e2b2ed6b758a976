"""The quick tests of `make check`: all but those that `tests/slow.txt` lists, one test a line.

`pytest --quick` leaves the listed ones out. `pytest --write-slow SECONDS` runs everything and then lists what took
longer than that, fixtures included. A new test is quick until it is listed. What is listed may be at most 30 % of the
tests, and every file of `tests/claims`, which hold the theorems, keeps a quick one.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

LIST = Path(__file__).with_name("slow.txt")
MOST = 0.3  # of the tests


class Slow:
    """The plugin."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out what is listed, with --quick."""
        if not config.getoption("quick"):
            return
        listed = set(LIST.read_text("utf-8").splitlines())
        slow = [item for item in items if item.nodeid in listed]
        if not any(argument for argument in config.args if "::" in argument or argument.endswith(".py")):
            _check([item.nodeid for item in items], listed)
        items[:] = [item for item in items if item.nodeid not in listed]
        config.hook.pytest_deselected(items=slow)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up setup, call and teardown of each test; what workers report comes here too."""
        self.seconds[report.nodeid] += report.duration

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the list, with --write-slow; in the process that hears of every test."""
        longest = session.config.getoption("write_slow")
        if longest is not None and not hasattr(session.config, "workerinput"):
            slow = sorted(test for test, seconds in self.seconds.items() if seconds > longest)
            LIST.write_text("".join(f"{test}\n" for test in slow), "utf-8")


def _check(tests: Iterable[str], listed: set[str]) -> None:
    """Refuse a list that leaves out too much, or tests that are not there.

    A case of a test that is there is none without the files it is about: a source distribution has no ../shared/data.
    """
    tests = set(tests)
    functions = {test.partition("[")[0] for test in tests}
    if absent := {test for test in listed - tests if test.partition("[")[0] not in functions}:
        raise pytest.UsageError(f"{LIST.name} lists {len(absent)} tests that are not there, such as {min(absent)}")
    if len(listed) > MOST * len(tests):
        raise pytest.UsageError(f"{LIST.name} lists {len(listed)} of {len(tests)} tests: at most {MOST:.0%} are slow")
    claims = {test.split("::")[0] for test in tests if test.startswith("tests/claims/")}
    if missing := claims - {test.split("::")[0] for test in tests - listed}:
        raise pytest.UsageError(f"expected a quick test of each theorem, {min(missing)} has none")
