"""What pyproject.toml promises is what the release was tried with."""

import json
import tomllib

from packaging.requirements import Requirement
from packaging.version import Version

from benchmarks.faults import release
from benchmarks.report import RESULTS

STORED = json.loads((RESULTS / "release.json").read_text("utf-8"))
PROJECT = tomllib.loads((release.ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def tried(case: str) -> dict[str, Version]:
    """Versions of an environment, by names as pip spells them."""
    return {name.lower().replace("_", "-"): Version(v) for name, v in STORED["environments"][case]["versions"].items()}


def test_lower_bounds_are_what_was_tried() -> None:
    bounds = {requirement.name: bound for requirement, bound in release.lower_bounds().values()}
    texts = [
        *PROJECT["dependencies"],
        *(t for extra in release.EXTRAS for t in PROJECT["optional-dependencies"][extra]),
    ]
    oldest = [case for case in STORED["environments"] if case.endswith("oldest")]
    assert "3.11 oldest" in oldest
    for case in oldest:
        for name in (Requirement(text).name for text in texts):
            assert tried(case)[name.lower().replace("_", "-")] == Version(bounds[name]), f"{case}: {name}"


def test_the_wheel_is_that_of_this_version() -> None:
    wheel = STORED["wheel"]
    assert (wheel["version"], wheel["license"]) == (PROJECT["version"], PROJECT["license"])
    assert wheel["license"] == release.LICENSE
    assert "mmd/report/assets/uplot/LICENSE" in PROJECT["license-files"]


def test_every_environment_found_the_equilibrium_and_trained() -> None:
    every = [f"{version} {libraries}" for version in release.PYTHONS for libraries in release.LIBRARIES]
    assert sorted(STORED["environments"]) == sorted(every)
    for found in STORED["environments"].values():
        assert all(abs(run["value"] + 1 / 18) < 1e-8 for run in found["solve"].values())
        assert found["train"]["rounds"] == release.ROUNDS
