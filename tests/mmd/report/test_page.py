"""Pages: what was text stays text, no other script may run, nothing is asked for, and curves keep their ends."""

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

from mmd.host.files import OutputError
from mmd.report import page
from mmd.report.blocks import Badge, Bar, Facts, Matrix, Shares, Text, number
from mmd.report.interactive import POINTS, Answer, Answers, Axis, Chart, Line, Player, Policies
from mmd.report.page import ASSETS, Page, Section
from tests.pages import HOSTILE, Parsed, shown

# Of uPlot 1.6.32 as it was published; a newer one comes with its digests.
UPLOT = {
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}
SCRIPTED = re.compile(r"(src|href|action|data|srcdoc|on\w+)")


def everywhere(text: str) -> Page:
    """A page that has a text in each place where one can stand."""
    player = Player(text, [text], [2], [text, text], [-1], [[0.25, 0.75]])
    chart = Chart(text, [Axis("x", text)], [Axis("y", text)], [Line(text, 0, {"x": [1.0], "y": [2.0]})], note=text)
    blocks = [
        Text([text]),
        Facts(text, [text, text], {text: [text, Badge(text, "good")]}, compared=True),
        Matrix(text, [text, text], [[0.5, 1.0], [0.0, 0.5]], [[0.5, 0.9], [0.0, 0.5]], [[0.5, 1.0], [0.1, 0.5]]),
        Shares(text, text, {text: {text: 1.0}}),
        chart,
        Policies(text, {0: text}, [player], text),
        Answers(text, [text], (text, text), [Answer(0, 1, text, text, text, 0.5)], text),
    ]
    return Page(text, text, [Section(text, blocks)], text)


@pytest.mark.parametrize("text", HOSTILE)
def test_text_stays_text_wherever_it_stands(text: str, tmp_path: Path) -> None:
    plain, hostile = tmp_path / "plain.html", tmp_path / "hostile.html"
    page.write(everywhere("text"), plain)
    page.write(everywhere(text), hostile)
    expected, found = Parsed(plain), Parsed(hostile)
    assert [tag for tag, _ in found.tags] == [tag for tag, _ in expected.tags]
    assert [sorted(held) for _, held in found.tags] == [sorted(held) for _, held in expected.tags]
    assert found.text.count(shown(text)) >= 15
    assert found.held[-1] == expected.held[-1]
    (policies,) = found.data("players")
    assert policies["players"][0]["actions"] == [text, text]


def test_one_script_may_run_and_nothing_is_asked_for(tmp_path: Path) -> None:
    page.write(everywhere("text"), tmp_path / "page.html")
    found = Parsed(tmp_path / "page.html")
    (policy,) = (held["content"] or "" for tag, held in found.tags if held.get("http-equiv"))
    digest = base64.b64encode(hashlib.sha256(found.held[-1].encode()).digest()).decode()
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert [held for tag, held in found.tags if tag == "script"][:-1] == 3 * [{"type": "application/json"}]
    addresses = [held[name] for _, held in found.tags for name in held if SCRIPTED.fullmatch(name)]
    assert addresses
    assert all((address or "").startswith("#") for address in addresses)
    assert "url(" not in (ASSETS / "page.css").read_text("utf-8") + (ASSETS / "uplot" / "uPlot.min.css").read_text(
        "utf-8"
    )


def test_the_plotting_library_is_as_it_was_published() -> None:
    for name, digest in UPLOT.items():
        assert hashlib.sha256((ASSETS / "uplot" / name).read_bytes()).hexdigest() == digest
    assert "MIT" in (ASSETS / "uplot" / "LICENSE").read_text("utf-8")
    assert "v1.6.32" in (ASSETS / "uplot" / "uPlot.iife.min.js").read_text("utf-8")[:80]


def test_a_long_curve_keeps_its_ends_and_its_beginning() -> None:
    n = 100_000
    line = Line("run", 0, {"x": [float(k) for k in range(n)], "y": [float("nan"), *(1.0 / k for k in range(1, n))]})
    html = Chart("c", [Axis("x", "x")], [Axis("y", "y", log=True)], [line]).html()
    held = re.search(r"<script[^>]*>(.*)</script>", html, re.DOTALL)
    assert held is not None
    kept = json.loads(held[1])["lines"][0]["columns"]
    assert len(kept["x"]) == len(kept["y"]) <= POINTS + 2
    assert kept["x"][:10] == list(range(10))
    assert kept["x"][-1] == n - 1
    assert kept["y"][0] is None
    assert all(y == pytest.approx(1 / x) for x, y in zip(kept["x"][1:], kept["y"][1:], strict=True))
    assert max(b - a for a, b in zip(kept["x"], kept["x"][1:], strict=False)) <= 2 * n / POINTS + 1


def test_sections_with_one_name_have_different_places_and_empty_ones_none() -> None:
    html = Page("p", "", [Section("A b", [Text(["1"])]), Section("empty", []), Section("a-B", [Text(["2"])])]).html()
    assert re.findall(r'<section id="([^"]+)"', html) == ["a-b", "a-b-1"]
    assert re.findall(r'<a href="#([^"]+)">', html) == ["a-b", "a-b-1"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "\u2013"), (float("nan"), "\u2013"), (1234567, "1,234,567"), (0.5, "0.5"), (1e-12, "1e-12"), (-0.0, "0")],
)
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text


def test_a_bar_says_its_number_and_never_leaves_its_place() -> None:
    html = Facts("f", [""], {"share": [Bar(0.25, -0.1, 1.2)], "none": [Bar(None)]}).html()
    assert "25.0 %" in html
    assert "[-10.0, 120.0]" in html
    assert "width:100.00%" in Facts("f", [""], {"share": [Bar(7.0)]}).html()


def test_what_differs_is_marked() -> None:
    html = Facts("f", ["a", "b"], {"eta": [0.1, 0.2], "alpha": [1.0, 1.0]}, compared=True).html()
    rows = dict(re.findall(r'<tr([^>]*)><th scope="row">.*?<bdi>(\w+)</bdi></th>', html.partition("<tbody>")[2]))
    assert rows == {' class="differs"': "eta", "": "alpha"}


def test_a_page_that_cannot_be_written_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"\.html or \.htm"):
        page.prepare(tmp_path / "page.pdf")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(OutputError, match="folder"):
        page.prepare(tmp_path / "folder.html")
    with pytest.raises(OutputError, match="cannot be written"):
        page.write(Page("p", "", []), tmp_path / "nowhere" / "page.html")
