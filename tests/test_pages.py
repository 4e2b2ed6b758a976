"""The pages of both report commands in a browser: nothing runs that should not, and what can be done there works.

Skipped where Chromium is not installed.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from llm_bridge.command.cli import main as mpo
from mmd.command.cli import main as mmd
from mmd.report.interactive import Answer, Answers, Axis, Chart, Line, Player, Policies
from mmd.report.page import ASSETS, Page, Section, write
from tests.browser import Browser, Tab, find
from tests.pages import IMAGE, SCRIPT, large, solver_runs, training_runs

needs_browser = pytest.mark.skipif(find() is None, reason="Chromium is not installed, which opens the pages")
INFOSETS = 10_000
ROWS = "document.querySelectorAll('.grid .row:not(.head)')"
STATUS = "document.querySelector('.policies .status').textContent"
PAPER = 690  # pixels between the margins of a page of A4
CONTRAST = 4.5  # of text, as WCAG 2.2 has it at level AA
NAMED = {
    "button",
    "textbox",
    "searchbox",
    "combobox",
    "checkbox",
    "radio",
    "link",
    "tree",
    "treeitem",
    "table",
    "region",
}


class Pages(NamedTuple):
    """A browser, and what it opens."""

    browser: Browser
    solver: Path
    training: Path
    large: Path


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    folder = tmp_path_factory.mktemp("pages")
    files = [folder / f"{name}.html" for name in ("solver", "training", "large")]
    assert mmd(["report", *map(str, solver_runs(folder / "solver").values()), "--out", str(files[0])]) == 0
    assert mpo(["report", *map(str, training_runs(folder / "training").values()), "--out", str(files[1])]) == 0
    large(files[2], INFOSETS)
    with Browser(find() or "", folder / "profile") as browser:
        yield Pages(browser, *files)


@pytest.fixture(scope="module")
def solver(pages: Pages) -> Tab:
    return pages.browser.open(pages.solver)


@pytest.fixture(scope="module")
def training(pages: Pages) -> Tab:
    return pages.browser.open(pages.training)


@pytest.fixture(scope="module")
def big(pages: Pages) -> Tab:
    return pages.browser.open(pages.large)


@needs_browser
def test_nothing_runs_that_a_run_has_brought_and_nothing_is_asked_for(solver: Tab, training: Tab, big: Tab) -> None:
    for tab in (solver, training, big):
        assert tab.run("window.bad") is None
        assert tab.said == []
        assert len(tab.asked) == 1
        assert tab.run("document.querySelectorAll('script:not([type])').length") == 1
        assert tab.run("document.querySelectorAll('main img, main svg, [onmouseover]').length") == 0
    assert SCRIPT in solver.run("document.querySelector('main').textContent")
    assert IMAGE in training.run("document.querySelector('main').textContent")
    # And would it all fail: the page's policy stops a script that is put there.
    tab = training
    tab.run("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.bad = 9'}))")
    assert tab.run("window.bad") is None
    assert any("Content Security Policy" in one for one in tab.said)


@needs_browser
def test_ten_thousand_information_sets_open_at_once(big: Tab) -> None:
    assert big.processor_seconds < 3
    assert big.run(f"{ROWS}.length") < 100
    assert big.run(STATUS) == "30,000 of 30,000 actions at 10,000 of 10,000 information sets"
    big.run("document.querySelector('.grid').scrollTop = 1e9")
    big.wait(f"[...{ROWS}].some((row) => row.textContent.includes('hand 4999'))")
    assert big.run(f"{ROWS}.length") < 100
    big.run("document.querySelector('[data-view=tree]').click(); document.querySelector('.treebox button').click()")
    rows = "document.querySelectorAll('.tree .row')"
    assert big.run(f"{rows}.length") < 100
    assert big.run("document.querySelector('.tree .canvas').scrollHeight") == 30 * (2 + 4 * INFOSETS)
    assert big.run(f"[...{rows}].every((row) => row.getAttribute('role') === 'treeitem' && row.ariaSetSize)")
    big.run("document.querySelector('[data-view=table]').click()")
    assert big.said == []


@needs_browser
def test_a_search_finds_rows_in_the_table_and_their_way_in_the_tree(big: Tab) -> None:
    big.type(".policies input[type=search]", "column 4321 raise")
    big.wait(f"{STATUS} === '1 of 30,000 actions at 1 of 10,000 information sets'")
    assert "hand 4321raise" in big.run(f"{ROWS}[0].textContent")
    big.run("document.querySelector('[data-view=tree]').click()")
    names = big.run(
        "[...document.querySelectorAll('.tree .row')].map((row) => (row.querySelector('bdi') ?? row).textContent)"
    )
    levels = big.run("[...document.querySelectorAll('.tree .row')].map((row) => Number(row.ariaLevel))")
    assert names[0].endswith("column player")
    assert names[-2:] == ["c hand 4321", "raise"]
    assert levels == list(range(1, len(levels) + 1))
    big.type(".policies input[type=search]", "nowhere")
    big.wait(f"{STATUS}.startsWith('0 of')")
    big.run("document.querySelector('[data-view=table]').click()")
    assert big.run(f"{ROWS}.length") == 0
    big.type(".policies input[type=search]", "")
    big.wait(f"{STATUS}.startsWith('30,000')")


@needs_browser
def test_the_table_is_sorted_by_what_is_clicked(solver: Tab) -> None:
    number = "parseFloat(row.querySelector('.chance .number').textContent.replace('< ', ''))"
    chances = f"[...{ROWS}].slice(0, 24).map((row) => {number})"
    solver.run("document.querySelectorAll('.grid .head button')[2].click()")
    found = solver.run(chances)
    assert found == sorted(found, reverse=True)
    assert found[0] > found[-1]
    assert solver.run("document.querySelectorAll('.grid [role=columnheader]')[2].ariaSort") == "descending"
    solver.run("document.querySelectorAll('.grid .head button')[0].click()")


@needs_browser
def test_what_is_under_the_pointer_is_said_and_what_is_dragged_over_is_zoomed(solver: Tab) -> None:
    view = "document.querySelector('figure.chart').view"
    u = f"{view}.u"
    x, y = solver.place(".u-over", 0.5, 0.5)
    solver.mouse("mouseMoved", x, y)
    at = solver.run(f"{u}.data[0][{u}.cursor.idx]")
    line = solver.run(f"{view}.shown.map((line) => [line.x, line.y])")
    said = solver.run("[...document.querySelectorAll('.keys output')].map((one) => one.textContent)")
    expected = [max((a, b) for a, b in zip(*of, strict=True) if a <= at)[1] for of in line]
    assert said == solver.run(f"{expected}.map(shown)")
    assert solver.run("document.querySelector('.at').textContent") == f"gradient evaluations {at:g}"
    before = solver.run(f"{u}.scales.x.max - {u}.scales.x.min")
    (left, top), (right, bottom) = (solver.place(".u-over", share, share) for share in (0.3, 0.7))
    solver.mouse("mousePressed", left, top)
    solver.mouse("mouseMoved", right, bottom)
    solver.mouse("mouseReleased", right, bottom)
    assert solver.run(f"{u}.scales.x.max - {u}.scales.x.min") == pytest.approx(0.4 * before, rel=0.05)
    solver.run("[...document.querySelectorAll('.zoom button')].find((one) => one.textContent === 'Reset').click()")
    assert solver.run(f"{u}.scales.x.max - {u}.scales.x.min") == pytest.approx(before)
    solver.run("document.querySelector('.keys button').click()")
    assert solver.run(f"{u}.series[1].show") is False
    assert solver.run("document.querySelector('.keys button').ariaPressed") == "false"
    solver.run("document.querySelector('.keys button').click()")
    assert solver.said == []


@needs_browser
def test_curves_of_which_little_can_be_drawn_do_no_harm(pages: Pages, tmp_path: Path) -> None:
    columns = [
        ([0.0], [1.0]),
        ([0.0, 1.0], [0.0, -1.0]),
        ([], []),
        ([1.0, 1.0], [None, 5.0]),
        ([1.0, 2.0], [1e-300, 1e300]),
    ]
    axes = [Axis("x", "x")], [Axis("y", "y", log=True), Axis("none", "none")]
    charts = [Chart("c", *axes, [Line("a", 0, {"x": x, "y": y})]) for x, y in columns]
    write(Page("little", "", [Section("Curves", charts)]), tmp_path / "little.html")
    tab = pages.browser.open(tmp_path / "little.html")
    for selector in (".tick input", ".zoom button", "summary", ".keys button", ".tick input"):
        tab.run(f"document.querySelectorAll({selector!r}).forEach((one) => one.click())")
    for key in ("End", "ArrowLeft", "+", "-", "Escape"):
        pressed = f"new KeyboardEvent('keydown', {{key: {key!r}}})"
        tab.run(f"document.querySelectorAll('.plot').forEach((one) => one.dispatchEvent({pressed}))")
    chosen = "(one) => { one.value = 1; one.dispatchEvent(new Event('change')); }"
    tab.run(f"document.querySelectorAll('select').forEach({chosen})")
    assert tab.run("document.querySelectorAll('.plot canvas').length") == len(columns)
    assert tab.said == []


@needs_browser
def test_curves_and_trees_are_reached_by_keyboard(solver: Tab) -> None:
    solver.run("document.querySelector('.plot').focus()")
    solver.press("End")
    spoken = solver.run("document.querySelector('figure [role=status]').textContent")
    last = solver.run("[...document.querySelectorAll('.keys output')].map((one) => one.textContent)")
    assert re.fullmatch(r"gradient evaluations \d+: .*", spoken)
    assert all(value in spoken for value in last)
    solver.run("document.querySelector('[data-view=tree]').click(); document.querySelector('.tree').focus()")
    active = "document.getElementById(document.querySelector('.tree').getAttribute('aria-activedescendant'))"
    solver.press("ArrowDown")
    assert solver.run(f"{active}.querySelector('bdi').textContent") == "J|"
    assert solver.run(f"{active}.ariaExpanded") == "false"
    solver.press("ArrowRight")
    assert solver.run(f"{active}.ariaExpanded") == "true"
    solver.press("ArrowRight")
    assert solver.run(f"[{active}.ariaLevel, {active}.ariaPosInSet, {active}.ariaSetSize]") == ["3", "1", "2"]
    solver.press("ArrowLeft")
    solver.press("ArrowLeft")
    assert solver.run(f"{active}.ariaExpanded") == "false"
    solver.run("document.querySelector('[data-view=table]').click()")


@needs_browser
def test_answers_are_filtered_by_win_and_loss(training: Tab) -> None:
    articles = "[...document.querySelectorAll('.samples')[0].children]"
    verdicts = "document.querySelector('.verdicts')"
    counts = f"[...{verdicts}.querySelectorAll('.count')].map((one) => Number(one.textContent))"
    assert training.run(counts) == [15, 6, 3, 3, 3]  # three runs, each with five in its newest round
    for verdict, n, badge in (
        ("second", 6, "preferred"),
        ("first", 3, "preferred"),
        ("tie", 3, "tie"),
        ("none", 3, "no verdict"),
    ):
        training.run(f"document.querySelector('.verdicts input[value={verdict}]').click()")
        assert training.run(f"{articles}.length") == n
        side = 0 if verdict == "first" else 1
        badges = training.run(f"{articles}.map((one) => one.querySelectorAll('.badge')[{side}].textContent)")
        assert all(text.startswith(badge) for text in badges)
    training.run("document.querySelector('.verdicts input[value=all]').click()")
    training.type(".answers input[type=search]", "question-2")
    training.wait(f"{articles}.length === 3")
    assert "<script>" in training.run(f"{articles}[0].querySelector('.prompt').textContent + {articles}[0].textContent")
    training.type(".answers input[type=search]", "")
    training.wait(f"{articles}.length === 10")


@needs_browser
def test_answers_of_evals_are_those_of_a_model_that_won_or_lost(training: Tab) -> None:
    """By hand, of the shares in `COMPARED`: the model that is looked at stands on the right, whatever its place was."""
    block = "[...document.querySelectorAll('.answers')].find((one) => one.textContent.includes('evals compared'))"
    choice = f"[...{block}.querySelectorAll('.choice')].find((one) => one.textContent.startsWith('Model')).lastChild"
    named = "[one.children[1].textContent, Number(one.lastChild.textContent)]"
    ticks = f"[...{block}.querySelectorAll('.tick')].map((one) => {named})"
    known = [["all", 16], ["the second one wins", 6], ["the first one wins", 7], ["ties", 2], ["no verdict", 1]]
    assert training.run(ticks) == known
    for model, n, wins, loses in (("scissors", 12, 4, 6), ("rock", 16, 7, 6)):
        option = f"[...{choice}.options].find((one) => one.textContent === '{model}').value"
        training.run(f"{choice}.value = {option}; {choice}.dispatchEvent(new Event('change'))")
        assert training.run(ticks)[:3] == [["all", n], [f"{model} wins", wins], [f"{model} loses", loses]]
    training.run(f"{block}.querySelector('.verdicts input[value=second]').click()")
    right = f"[...{block}.querySelectorAll('.sides')].map((one) => one.lastChild.querySelector('h4').textContent)"
    found = training.run(right)
    assert len(found) == 7
    assert all(text.startswith("rock preferred") for text in found)
    training.run(f"{block}.querySelector('.verdicts input[value=all]').click()")


@needs_browser
def test_whatever_can_be_used_has_a_name(solver: Tab, training: Tab) -> None:
    for tab in (solver, training):
        tab.call("Accessibility.enable")
        nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
        used = [node for node in nodes if not node["ignored"] and node["role"]["value"] in NAMED]
        assert len(used) > 30
        nameless = [node["role"]["value"] for node in used if not node.get("name", {}).get("value", "").strip()]
        assert nameless == []
        headings = tab.run("[...document.querySelectorAll('h1, h2, h3, h4')].map((one) => Number(one.tagName[1]))")
        assert headings[0] == 1
        assert headings.count(1) == 1
        assert all(after - before <= 1 for before, after in pairwise(headings))


@needs_browser
def test_pages_fit_a_phone_and_a_printer(pages: Pages, training: Tab) -> None:
    for file in (pages.solver, pages.training):
        tab = pages.browser.open(file, width=360, dark=True)
        assert tab.run("document.documentElement.scrollWidth") <= 360
        assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 29)"
        tab.run("document.getElementById('theme').click()")
        assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert tab.printed().startswith(b"%PDF")
        assert tab.run("document.documentElement.className") == ""
        tab.call("Emulation.setEmulatedMedia", media="print")
        tab.run("dispatchEvent(new Event('beforeprint'))")
        cut_off = "(one) => one.scrollHeight > one.clientHeight + 1"
        assert tab.run(f"[...document.querySelectorAll('.grid, .scroll, .text')].some({cut_off})") is False
        assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert tab.said == []


@needs_browser
def test_paper_has_all_of_a_label_and_a_head_on_every_page(pages: Pages, tmp_path: Path) -> None:
    """Nothing is wider than the paper, where the browser would print everything smaller."""
    kinds = [f"kind-{name}-of-a-name" for name in "ab"]
    infosets = [f"a rather long label of an information set, number {i}" for i in range(60)]
    players = [Player(name, infosets, [2] * 60, ["up", "down"] * 60, None, [[0.5] * 120] * 2) for name in kinds]
    policies = Policies("long", dict(enumerate(kinds)), players)
    answers = Answers("many", ["r"], [("s", "n")], [Answer(0, 1, f"q{i:02}", "a", "b", 0.5) for i in range(90)])
    write(Page("long", "", [Section("Policy", [policies]), Section("Answers", [answers])]), tmp_path / "long.html")
    for file in (tmp_path / "long.html", pages.solver, pages.training):
        tab = pages.browser.open(file, width=PAPER)
        tab.call("Emulation.setEmulatedMedia", media="print")
        tab.run("dispatchEvent(new Event('beforeprint'))")
        assert tab.run("document.documentElement.scrollWidth") <= PAPER, file
        cut = "(one) => one.scrollWidth > one.clientWidth + 1"
        assert tab.run(f"[...document.querySelectorAll('.infoset, .action, .grid bdi')].filter({cut}).length") == 0
        used = "[...document.querySelectorAll('button, select, input')].filter((one) => one.checkVisibility())"
        assert tab.run(f"{used}.every((one) => one.closest('.head, .keys'))")
        heads = "[...document.querySelectorAll('.grid:not([hidden]) .head')]"
        assert tab.run(f"{heads}.every((one) => getComputedStyle(one).display === 'table-header-group')")
    tab = pages.browser.open(tmp_path / "long.html", width=PAPER)
    tab.run("dispatchEvent(new Event('beforeprint'))")
    assert tab.run("document.querySelector('.answers .status').textContent") == "30 of 90 pairs of answers"
    prompts = tab.run("[...document.querySelectorAll('.prompt')].map((one) => one.textContent)")
    assert prompts == [f"q{i:02}" for i in range(0, 90, 3)]


@needs_browser
def test_a_curve_that_another_covers_is_seen_beside_it(pages: Pages, tmp_path: Path) -> None:
    columns = {"x": [0.0, 1.0, 2.0], "y": [1.0, 2.0, 4.0]}
    lines = [Line(name, i, columns) for i, name in enumerate("ab")] + [Line("c", 2, columns | {"y": [1.0, 2.0, 3.0]})]
    write(
        Page("same", "", [Section("Curves", [Chart("c", [Axis("x", "x")], [Axis("y", "y")], lines)])]),
        tmp_path / "s.html",
    )
    tab = pages.browser.open(tmp_path / "s.html")
    assert tab.run("document.querySelector('.chart').view.u.series.slice(1).map((one) => one.width)") == [5, 2, 2]


def colours(theme: str) -> dict[str, tuple[float, float, float]]:
    """Colours of a theme by name, red, green and blue in [0, 1]."""
    css = (ASSETS / "page.css").read_text("utf-8")
    start = css.index(":root {" if theme == "light" else ':root[data-theme="dark"]')
    found = re.findall(r"--([\w-]+): #([0-9a-f]{6})", css[start : css.index("}", start)])
    return {name: tuple(int(value[i : i + 2], 16) / 255 for i in (0, 2, 4)) for name, value in found}


def luminance(colour: tuple[float, float, float]) -> float:
    """Relative luminance, as WCAG defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: tuple[float, float, float], b: tuple[float, float, float]) -> float:
    """Of two colours."""
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_curves_stand_out(theme: str) -> None:
    known = colours(theme)
    texts = [
        ("ink", "paper"),
        ("soft", "paper"),
        ("link", "paper"),
        ("ink", "raised"),
        ("soft", "raised"),
        ("ink", "hover"),
    ]
    texts += [(kind, f"{kind}-back") for kind in ("good", "bad", "open")]
    for text, back in texts:
        assert contrast(known[text], known[back]) >= CONTRAST, (text, back)
    for curve in range(8):
        assert contrast(known[f"c{curve}"], known["paper"]) >= 3, curve
    for side in ("win", "loss"):  # a cell's colour is mixed with the paper's, at most 55 parts in 100
        mixed = tuple(0.55 * a + 0.45 * b for a, b in zip(known[side], known["paper"], strict=True))
        assert contrast(known["ink"], mixed) >= CONTRAST, side


def test_the_dark_theme_is_one_and_print_is_light() -> None:
    css = (ASSETS / "page.css").read_text("utf-8")
    blocks = [dict(re.findall(r"(--[\w-]+): ([^;]+);", block)) for block in re.findall(r":root[^{]*\{([^}]*)\}", css)]
    light, dark, preferred, printed = (block for block in blocks if "--paper" in block)
    assert dark == preferred != light == printed
