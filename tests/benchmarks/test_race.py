"""The race on a real model: the game over forms by hand, camps that rotate, and pieces that equal one run."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import tokenizers

import llm_bridge as bridge
from benchmarks.real_model.race import answers, forms, human, kept, page, plan, populations, results, runner, training
from benchmarks.real_model.race.plan import L, P, S
from benchmarks.real_model.race.reader import Read, Reader, is_fluent
from llm_bridge.judges import ask

ANSWERS = {S: "Sure:\n1. One\n2. Two", P: "I think that it is blue.", L: "The sky is blue."}
ROOT = Path(__file__).resolve().parents[2]
ROTATING = {(S, P, L): 0.25, (P, L, S): 0.25, (L, S, P): 0.25}


@pytest.mark.parametrize("form", ANSWERS)
def test_an_answer_has_the_form_that_a_person_would_say(form: int) -> None:
    assert forms.form_of(ANSWERS[form]) == form
    assert forms.class_of(ANSWERS[form], fluent=False) == form + 3


def test_exploitability_by_hand() -> None:
    """Three equal camps of a quarter, so each form beats the next with 1/2 + 1/8; a turned sign would make L best."""
    table = forms.table(ROTATING, 0.25)
    assert table[S, P] == table[P, L] == table[L, S] == pytest.approx(0.625, abs=1e-12)
    shares = np.array([0.5, 0.3, 0.2, 0.0, 0.0, 0.0])  # L wins (0.5 - 0.3) / 8, S (0.3 - 0.2) / 8, P (0.2 - 0.5) / 8
    assert forms.exploitability(table, shares) == pytest.approx(0.2 / 8, abs=1e-12)
    assert (table @ shares).argmax() == L
    third = np.array([1, 1, 1, 0, 0, 0]) / 3
    assert forms.exploitability(table, third) == pytest.approx(0, abs=1e-12)
    assert forms.exploitability(table, np.roll(third, 3)) == pytest.approx(0.125, abs=1e-12)  # broken in every answer


def test_a_sample_of_an_equilibrium_is_exploitable_by_its_noise_alone() -> None:
    """By hand: one answer loses 1/8 to the form that beats it; of two, a third of the pairs are alike and lose 1/8, the
    others lose 1/16, since the form that beats one of them ties with the other. It falls as 1 / sqrt n."""
    table = forms.table(ROTATING, 0.25)
    assert forms.of_an_equilibrium(table, 1) == pytest.approx(1 / 8, abs=1e-9)
    assert forms.of_an_equilibrium(table, 2) == pytest.approx(1 / 8 / 3 + 2 / 3 / 16, abs=1e-3)
    assert forms.of_an_equilibrium(table, 400) / forms.of_an_equilibrium(table, 1600) == pytest.approx(2, rel=0.05)


def test_who_knows_the_prompt_wins_where_a_policy_mixes_over_prompts_alone() -> None:
    """Each form on a third of the prompts: no form wins, but the next form to that of the prompt wins 1/8 each time;
    against a mixture within each prompt one seen answer helps by chance only, here exactly not at all."""
    table = forms.table(ROTATING, 0.25)
    assert forms.exploitability(table, np.array([1, 1, 1, 0, 0, 0]) / 3) == pytest.approx(0, abs=1e-12)
    assert forms.knowing(table, [[S, S], [P, P], [L, L]]) == pytest.approx(0.125, abs=1e-12)
    every = [[a, b] for a in (S, P, L) for b in (S, P, L)]
    assert forms.knowing(table, every) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("name", "lottery"), plan.LOTTERIES.items())
def test_the_populations_rotate_and_have_the_lotteries_that_the_plan_says(
    name: str, lottery: tuple[float, ...]
) -> None:
    """Each form beats the next, and no class beats the lottery; a cycle of three has no other equilibrium."""
    table, order = results.preference(name), (S, P, L) if name == "tuning" else (S, L, P)
    np.testing.assert_allclose(table + table.T, 1, atol=1e-12)
    assert all(table[order[i], order[(i + 1) % 3]] > 0.55 for i in range(3))
    np.testing.assert_allclose(table[:3] @ [*lottery, 0, 0, 0], 0.5, atol=1e-12)
    assert forms.exploitability(table, np.array([*lottery, 0, 0, 0])) == pytest.approx(0, abs=1e-12)
    assert (table[:3] - table[3:] >= plan.FLUENCY / 2 - 1e-12).all()  # whoever is broken would do better fluent


def read(likelihood: float, distinct: float = 1.0) -> Read:
    return Read(likelihood, 0.0, distinct, np.zeros(0))


@pytest.mark.parametrize("name", plan.KNOWN)
def test_the_judge_prefers_as_the_table_says(name: str) -> None:
    """All pairs of classes, through the judge that trains policies: camps by the text, fluency by the reader."""
    reader: Any = Reader(None, None, 0, 1.0)
    texts = [*ANSWERS.values(), *(f"{answer} {answer}" for answer in ANSWERS.values())]
    reader.known = {("x", one): read(-1.0 if i < 3 else -9.0) for i, one in enumerate(texts)}
    a, b = zip(*((i, j) for i in range(6) for j in range(6)), strict=True)
    found = ask(populations.population(name, reader), ["x"] * 36, [texts[i] for i in a], [texts[j] for j in b])
    np.testing.assert_allclose(found.preference.reshape(6, 6), results.preference(name), atol=1e-12)


def test_neither_nonsense_nor_a_loop_is_fluent() -> None:
    assert is_fluent(read(-1.5))
    assert not is_fluent(read(-4.0))
    assert not is_fluent(read(-0.5, distinct=0.2))


def test_the_head_of_a_human_judge_finds_a_cycle_that_no_reward_has() -> None:
    """Pairs of three kinds of answers that beat each other in a circle; turned around, every preference is 1 minus."""
    random = np.random.default_rng(0)
    kind = random.integers(3, size=300)
    spots = np.pad(np.array([[1.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]]), ((0, 0), (0, 2)))
    thoughts = spots[np.stack([kind, (kind + 1) % 3], axis=1)] + 0.1 * random.normal(size=(300, 2, 4))
    thoughts = np.tile(thoughts, (1, 1, 16))
    head = human.train(thoughts + 0.02 * random.normal(size=thoughts.shape))
    assert human.accuracy(head, thoughts, thoughts)["dev"] > 0.95
    a, b = (head.shown(thoughts[:, i]) for i in (0, 1))
    np.testing.assert_allclose(human.preference(a, b) + human.preference(b, a), 1, atol=1e-12)


def test_no_prompt_is_in_two_parts(data: Path) -> None:
    parts = plan.prompts(data / "prompts", lambda text: len(text) // 4)
    assert {name: len(parts[name]) for name in plan.PARTS} == plan.PARTS
    known = [text for part in parts.values() for text in part]
    assert len(known) == len(set(known))
    for name in plan.POPULATIONS:
        trained = plan.training_part(name, parts)
        assert len(set(trained)) == len(trained) >= 2 * plan.ROUNDS[name]  # none comes twice
        assert not {*trained} & {*parts[plan.report_part(name)], *parts["tuning"], *parts["tuning_report"]}


def letters(folder: Path) -> bridge.Tokenizer:
    """A tokenizer whose tokens are bytes, with a chat template."""
    inner = tokenizers.Tokenizer(tokenizers.models.BPE())
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = tokenizers.decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<user>", "<bot>"]
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator([], tokenizers.trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet))
    folder.mkdir()
    inner.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    template = "<s>{% for m in messages %}<user>{{ m['content'] }}{% endfor %}<bot>"
    (folder / "chat_template.jinja").write_text(template, "utf-8")
    return bridge.Tokenizer(folder)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[bridge.Policy, Reader]:
    """A model of random weights that reads and writes letters."""
    folder = tmp_path_factory.mktemp("small") / "model"
    words = letters(folder)
    config = {
        "model_type": "llama",
        "vocab_size": 300,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 96,
        "tie_word_embeddings": True,
        "bos_token_id": words.bos,
        "eos_token_id": words.eos,
        "pad_token_id": words.pad,
    }
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    policy = bridge.init(folder, jax.random.key(0))
    return policy, Reader(policy, words, plan.PROMPT_TOKENS, plan.TEMPERATURE, 24)


def test_a_run_in_pieces_is_the_run(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after three rounds and killed after five of six: rows and adapter equal those of a run at once."""
    monkeypatch.setitem(plan.ROUNDS, "cyclic", 6)
    run, prompts = plan.Run("cyclic", "mpo", 0, 1), [f"say {letter}" for letter in "abcdefg"]
    judge = populations.population("cyclic", small[1])
    seen: list[int] = []

    def go(folder: Path, stop: int, kill: int = 99) -> bool:
        def say(number: int, _: float) -> None:
            seen.append(number)
            if number == kill:
                raise KeyboardInterrupt

        setting = plan.SETTINGS["mpo"][0]
        return training.train(run, setting, judge, small, prompts, folder, lambda: len(seen) >= stop, say)

    assert go(tmp_path / "once", 99)
    seen.clear()
    assert not go(tmp_path / "pieces", 2)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "pieces", 99, kill=5)
    assert go(tmp_path / "pieces", 99)
    assert seen == [1, 2, 3, 4, 5, 5, 6]
    once, pieces = (answers.rows(tmp_path / name / training.METRICS) for name in ("once", "pieces"))
    for row in (*once, *pieces):
        del row["processor_seconds"]
    assert once == pieces
    assert [row["samples"] for row in once] == [16] * 6
    files = [
        (tmp_path / name / training.POLICY / "adapter_model.safetensors").read_bytes() for name in ("once", "pieces")
    ]
    assert files[0] == files[1]


def test_answers_in_pieces_are_those_drawn_at_once(small: Any, tmp_path: Path) -> None:
    """A file that was cut in the middle of a piece is gone on with from that piece's beginning."""
    policy, reader = training.start_policy(small[0], 0), small[1]
    prompts = [f"say {i}" for i in range(2 * answers.AT_A_TIME)]

    def go(path: Path, late: bool = False) -> bool:
        return answers.collect(path, policy, reader, prompts, {}, lambda: late, n=2, tokens=16, seed=3)

    assert go(tmp_path / "once.jsonl")
    whole = (tmp_path / "once.jsonl").read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "pieces.jsonl").write_text("".join(whole[: answers.AT_A_TIME + 3]) + whole[-1][:40], "utf-8")
    assert not go(tmp_path / "pieces.jsonl", late=True)
    assert len(answers.rows(tmp_path / "pieces.jsonl")) == answers.AT_A_TIME
    assert go(tmp_path / "pieces.jsonl")
    assert answers.rows(tmp_path / "pieces.jsonl") == answers.rows(tmp_path / "once.jsonl")
    counted = results.counts(answers.rows(tmp_path / "once.jsonl"))
    assert counted.shape == (len(prompts), 6)
    assert counted.sum() == 2 * len(prompts)


def test_the_page_is_that_of_the_stored_numbers() -> None:
    stored = json.loads((ROOT / "benchmarks" / "results" / "real_race.json").read_text("utf-8"))
    assert (ROOT / "docs" / "benchmarks" / "race.md").read_text("utf-8") == page.page(stored)


N = 10  # prompts of a race that is made up


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A race on ten prompts whose policies have known answers: MPO mixes as the lottery does, the others never do."""
    monkeypatch.setattr(plan, "PARTS", {"held_out": N, "fresh_held_out": N, "tuning_report": N})
    mixed = [S, L] * 4 + [P, L] + [P] * 10
    for run in (*plan.tuning_runs(), *plan.runs("cyclic")):
        other = [S] * 10 + [P] * 10 if run.setting == 1 else [P] * 20  # the second setting is the best
        write(
            results.report_of(tmp_path, run, plan.report_part(run.population)), mixed if run.method == "mpo" else other
        )
    return tmp_path


def write(path: Path, given: list[int]) -> None:
    """Two answers of these forms to each prompt."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {"likelihood": [-1.0] * 2, "start": [-9.0] * 2, "own": [-8.0] * 2, "nats": [9.0] * 2, "distinct": [1.0] * 2}
    lines = []
    for i in range(N):
        texts = [f"{ANSWERS[form]} {path.parent.name} {j}" for j, form in enumerate(given[2 * i : 2 * i + 2])]
        lines.append(json.dumps({"prompt": f"prompt {i}", "answers": texts, **known}) + "\n")
    path.write_text("".join(lines), "utf-8")


def test_what_is_finished_is_told_and_what_is_not_is_said_to_be_missing(made_up: Path) -> None:
    """The setting that is best by the truth; exploitability 0 where the mixture is the lottery's and 0.08 where all is
    personal; a win rate of the table is the game's, which is a cycle; the rest of the plan is not finished."""
    assert results.chosen(made_up, "sppo") == 1
    write(results.start_of(made_up, "cyclic"), [P] * 20)
    assert "cyclic-inpo-chosen-seed2" in [run.name for run in runner.runs(made_up)]  # the best rival's second
    write(results.report_of(made_up, plan.second("cyclic", "inpo"), "held_out"), [P] * 20)
    found = json.loads(json.dumps(results.all_of(made_up, runner.runs(made_up)) | {"hours_left": 9.0}))
    told, table = page.finals(found, "cyclic"), found["populations"]["cyclic"]["table"]
    assert page.level(told["mpo"]) == pytest.approx(0, abs=1e-12)
    assert page.level(told["egpo"]) == pytest.approx(0.08, abs=1e-12)
    place = [table["names"].index(name) for name in ("mpo 1", "egpo 1")]
    assert table["wins"][place[0]][place[1]] == pytest.approx(0.5, abs=1e-12)
    said = page.verdict(found)
    open_ = "win rates on the natural population, win rates on the human population."
    assert f"MPO, first form, not finished: {open_}" in said
    first = "MPO, first form, reached: exact exploitability on the cyclic population 0.0000, the best rival INPO 0.0800"
    assert first in said
    assert "unbeaten on the cyclic population. MPO, second form, not finished: exploitability on the fresh" in said
    assert said.startswith("MPO, first form, not finished: win rates on the natural population,")
    assert "no scalar reward would do" in page.page(found)
    next(run for run in found["runs"] if run["population"] == "cyclic").pop("spread")
    assert "MPO, first form, not finished: exploitability on the cyclic population" in page.verdict(found)
    page.draw(found, "cyclic", made_up / "race.svg")


def test_a_race_goes_on_elsewhere_from_what_is_kept_of_it(
    made_up: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The same numbers of every run and population, the best rival's second seed included; nothing is done again, and
    adversaries are not wanted of policies that stayed behind."""
    write(results.start_of(made_up, "cyclic"), [P] * 20)
    write(results.report_of(made_up, plan.second("cyclic", "inpo"), "held_out"), [P] * 20)
    store, elsewhere = tmp_path_factory.mktemp("kept"), tmp_path_factory.mktemp("elsewhere")
    for run in (run for run in runner.runs(made_up) if (made_up / run.name).exists()):
        (made_up / run.name / training.RESULT).write_text("{}", "utf-8")
    kept.keep(made_up, store)
    written, left = kept._write, [2]

    def killed(path: Path, text: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        written(path, text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept, "_write", killed)  # between the two files of a run
        with pytest.raises(KeyboardInterrupt):
            kept.restore(elsewhere, store)
    kept.keep(elsewhere, store)
    kept.restore(elsewhere, store)
    here, there = (results.all_of(place, runner.runs(place)) for place in (made_up, elsewhere))
    assert there == here
    assert there["populations"]["cyclic"]["rival"] == "inpo"
    names = [name for name, _ in runner.tasks(runner.Race(elsewhere, elsewhere, elsewhere, 0.0))]
    assert names[:3] == ["start on tuning", "start on fresh", "fresh-mpo_2-chosen-seed1"]
    assert not [name for name in names if name.startswith("cyclic")]
    assert not [name for name in names if name.startswith("adversaries of cyclic")]


def test_what_is_beaten_is_said_first(made_up: Path) -> None:
    """SPPO always gives what beats a policy that is always personal; MPO is that policy now."""
    for seed in (1, 2):
        write(results.report_of(made_up, plan.Run("cyclic", "mpo", None, seed), "held_out"), [P] * 20)
    for run in (plan.Run("cyclic", "sppo", None, 1), plan.second("cyclic", "inpo")):
        write(results.report_of(made_up, run, "held_out"), [L] * 20 if run.method == "sppo" else [P] * 20)
    found = results.all_of(made_up, runner.runs(made_up)) | {"hours_left": 9.0}
    said = page.verdict(found)
    assert "MPO, first form, not reached: exact exploitability on the cyclic population 0.0800" in said
    assert "SPPO, seed 1 wins 58.0 " in said


def test_means_are_over_all_seeds_of_a_rival_and_of_one_form() -> None:
    """By hand: two seeds each, 0.6 and 0.5 in one, 0.4 and 0.3 in the other."""
    names = ["start", "mpo 1", "egpo 1", "mpo 2", "egpo 2", "mpo_2 1"]
    wins = [[0.5] * 6 for _ in names]
    wins[2][1], wins[2][3], wins[4][1], wins[4][3] = 0.6, 0.5, 0.4, 0.3
    said = list(page.over_seeds({"names": names, "wins": wins}, "mpo"))
    assert said == ["EGPO wins 45.0 % [30.0, 60.0] against MPO"]


def test_tasks_wait_for_what_they_need(made_up: Path) -> None:
    """A second seed comes when its first has answered; a method waits for its settings, human judges for their pairs;
    a task that another process works on is left to it."""
    for run in runner.runs(made_up):
        if (made_up / run.name).exists():
            (made_up / run.name / training.RESULT).write_text("{}", "utf-8")
    (made_up / "tuning-egpo-setting2-seed100" / training.RESULT).unlink()
    results.report_of(made_up, plan.Run("tuning", "sppo", 0, 100), "tuning_report").unlink()
    race = runner.Race(made_up, made_up, made_up, 0.0)
    told = dict(runner.tasks(race))
    waiting = [name for name, task in told.items() if task is None]
    assert list(told)[:3] == ["start on tuning", "tuning-sppo-setting0-seed100", "tuning-egpo-setting2-seed100"]
    assert "cyclic-sppo-chosen-seed1" not in told
    assert told["cyclic-inpo-chosen-seed2"] is not None
    assert told["judges of human pairs"] is not None
    assert {"start on human", "human-mpo-chosen-seed1"} <= set(waiting)
    assert "natural-mpo-chosen-seed1" not in waiting
    results.report_of(made_up, plan.Run("tuning", "mpo", 0, 100), "tuning_report").unlink()
    assert dict(runner.tasks(race))["natural-mpo-chosen-seed1"] is None
    with ExitStack() as ours, ExitStack() as theirs:
        assert runner._taken(ours, made_up / "working")
        assert not runner._taken(theirs, made_up / "working")
