"""Games, algorithms, magnets, methods, families and judges from outside: `examples/outside`, installed by pip."""

import importlib.metadata
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import games
import llm_bridge as bridge
import mmd
from llm_bridge.command.cli import main as mpo_main
from mmd.command.cli import main
from mmd.game import game as game_module
from mmd.game import policy_files
from mmd.host import doors
from mmd.magnets import Step
from tests.llm.test_mpo_cli import CONFIG, SIZES
from tests.llm.test_mpo_cli import model as model  # the fixture

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "outside"
PACKAGE = EXAMPLE / "outside_example"
NAMES = {
    "games": "outside_game",
    "algorithms": "outside_algorithm",
    "magnets": "outside_magnet",
    "methods": "outside_method",
    "families": "gemma",
    "judges": "outside_judge",
}
PAYOFFS = np.array([[2.0, -1.0], [-1.0, 1.0]])  # its value is 1/5


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pip has installed the example into; without hatchling, which builds it, a copy with its names."""
    folder = tmp_path_factory.mktemp("site")
    if importlib.util.find_spec("hatchling"):
        options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
        command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder), str(EXAMPLE)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return folder
    shutil.copytree(PACKAGE, folder / PACKAGE.name)
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text("utf-8"))["project"]
    about = folder / "outside_example-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = [
        (group, "\n".join(f"{k} = {v}" for k, v in names.items())) for group, names in project["entry-points"].items()
    ]
    (about / "entry_points.txt").write_text("".join(f"[{group}]\n{names}\n" for group, names in groups))
    return folder


@pytest.fixture
def installed(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to be in, with the example installed."""
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    monkeypatch.chdir(tmp_path)
    np.savetxt(tmp_path / "game.csv", PAYOFFS, delimiter=",")
    with jax.numpy_dtype_promotion("standard"):  # optax raises floats to integer powers
        yield tmp_path


def run(*words: Any) -> int:
    return main([str(word) for word in words])


def in_round(k: int) -> bridge.TrainState:
    """A state of which nothing but the round is known."""
    state = object.__new__(bridge.TrainState)
    for name in ("round", "age"):
        object.__setattr__(state, name, jnp.int32(k))
    return state


def mpo(*words: Any) -> int:
    return mpo_main([str(word) for word in words])


# -------------------------------------------------------------------- names


def test_names_are_listed_without_importing_anything(site: Path) -> None:
    code = (
        "import sys; from mmd.host import doors\n"
        "print({kind: doors.Door(kind, ValueError, '').installed() for kind in doors.NOUNS})\n"
        "assert not {'outside_example', 'jax', 'numpy'} & set(sys.modules)"
    )
    environment = {"PYTHONPATH": f"{site}:{ROOT}", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    names = {kind: {name: "outside-example 0.1"} for kind, name in NAMES.items()}
    names["algorithms"]["outside_host_algorithm"] = "outside-example 0.1"
    assert eval(done.stdout) == names


def test_help_and_games_list_them(installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("solve", "--help") == 0
    shown = capsys.readouterr().out
    listed = ", ".join(f"{name} (outside-example 0.1)" for name in ("outside_algorithm", "outside_host_algorithm"))
    assert f"  algorithms: {listed}\n" in shown
    assert mpo("train", "--help") == 0
    shown = capsys.readouterr().out
    assert all(f"  {kind}: {NAMES[kind]} (" in shown for kind in ("methods", "magnets", "families", "judges"))
    assert run("games") == 0
    assert "outside_game" in capsys.readouterr().out
    assert games.available()["outside_game"] == "Installed by outside-example 0.1."


def test_a_name_that_two_packages_give_is_refused_with_both(installed: Path) -> None:
    about = installed / "other-2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 2\n")
    (about / "entry_points.txt").write_text("[magnetic_mirror.games]\noutside-game = other:f\nkuhn_poker = other:f\n")
    sys.path.insert(0, str(installed))
    with pytest.raises(mmd.GameError, match=r"outside_game: is given by other 2 and outside-example 0.1"):
        games.load("outside_game")
    assert games.load("kuhn_poker").name == "kuhn_poker:cards=3"  # what is built in wins
    assert "kuhn_poker" not in games.available()


# -------------------------------------------------------------------- what the example is worth


@pytest.mark.parametrize("name", ["outside_game", "outside_example.game:Bluff", f"{PACKAGE / 'game.py'}:Bluff"])
def test_the_games_value_is_what_a_bluff_is_worth(name: str, installed: Path) -> None:
    for bet in (1, 2):
        game = games.load(f"{name}:bet={bet}")
        assert game.name == f"outside_game:bet={bet}"
        np.testing.assert_allclose(mmd.solve_exactly(game).value, bet / (2 + bet), rtol=0, atol=1e-12)
    assert games.load(name).name == "outside_game:bet=1"
    assert run("solve", f"{name}:bet=2", "--quiet", "--out", "solved") == 0
    result = json.loads(Path("solved/result.json").read_text())
    np.testing.assert_allclose(result["value"], 2 / 4, rtol=0, atol=result["tolerance"])


def test_the_algorithm_ends_at_the_quantal_response_equilibrium(installed: Path, monkeypatch: Any) -> None:
    """x ~ exp(A y / alpha), y ~ exp(-A' x / alpha); and its run is plotted and verified without its code."""
    alpha = 0.5
    words = ("--algorithm", "outside_algorithm", "--alpha", alpha, "--eta", 0.1, "--max-iterations", 2000)
    assert run("solve", "game.csv", *words, "--tolerance", 0, "--quiet", "--out", "run") == 3
    x, y = (p[1:] for p in policy_files.load(Path("run"), games.load("game.csv")).probabilities)
    for policy, payoffs in ((x, PAYOFFS @ y), (y, -PAYOFFS.T @ x)):
        np.testing.assert_allclose(policy, np.exp(payoffs / alpha) / np.exp(payoffs / alpha).sum(), rtol=1e-11)
    result = json.loads(Path("run/result.json").read_text())
    exploitability = ((PAYOFFS @ y).max() - (x @ PAYOFFS).min()) / 2
    np.testing.assert_allclose(result["exploitability"], exploitability, rtol=1e-9)
    assert result["algorithm"]["name"] == "outside_algorithm"
    for name in [name for name in sys.modules if name.startswith("outside_example")]:
        monkeypatch.setitem(sys.modules, name, None)  # importing it now fails
    assert run("plot", "run") == run("verify", "game.csv", "run") == 0
    for given, labels in (("run", ["run"]), (["run", Path("run")], ["run 1", "run 2"])):
        shown = [line.get_label() for line in mmd.plot_convergence(given).axes[0].get_lines()]
        assert shown[: len(labels)] == [f"{label}, last iterate" for label in labels]
    assert run("solve", "game.csv", *words, "--out", "run", "--resume") == 2


def test_the_host_algorithm_finds_the_value(installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """[[2, -1], [-1, 1]]: both play (2, 3) / 5, the value is 1/5."""
    algorithm = mmd.algorithms.made("outside_host_algorithm")
    solution = mmd.solve(PAYOFFS, algorithm)
    assert solution.converged
    assert solution.iterate == "last"
    np.testing.assert_allclose(solution.value, 0.2, rtol=0, atol=1e-12)
    for strategy in solution.policy.probabilities:
        np.testing.assert_allclose(strategy[1:], [0.4, 0.6], rtol=0, atol=1e-10)
    words = ("--algorithm", "outside_host_algorithm", "--quiet", "--out", "run")
    assert run("solve", "game.csv", *words) == run("verify", "game.csv", "run") == run("plot", "run") == 0
    assert run("solve", "kuhn_poker", *words) == 2
    assert "expected a matrix game, got the tree" in capsys.readouterr().err


def test_the_magnet_is_where_its_share_puts_it(installed: Path) -> None:
    """After 8 steps at a policy that stays, and two moves half of the way: log mu = (log mu_0 + 3 log pi) / 4."""
    magnet, game = mmd.magnets.load("outside_magnet:every=4,part=0.5", center="uniform"), games.load("game.csv")
    assert (magnet.every, magnet.part, magnet.center) == (4, 0.5, "uniform")
    policy = tuple(jnp.log(jnp.array([1.0, 0.8, 0.2])) for _ in range(2))
    mu = tuple(jnp.asarray(player.uniform()) for player in game.players)
    for k in range(1, 9):
        mu = magnet.moved(game, mu, Step(policy, policy, policy, 0.1), jnp.asarray(k))
    expected = np.array([0.8, 0.2]) ** 0.75  # the uniform part falls out
    np.testing.assert_allclose(np.exp(mu[0][1:]), expected / expected.sum(), rtol=1e-14)


def test_a_magnet_that_goes_all_the_way_is_a_refresh(installed: Path) -> None:
    found = []
    for magnet in ("outside_magnet:every=5,part=1", "refresh=5"):
        words = ("--algorithm", "mmd", "--magnet", magnet, "--max-iterations", 40, "--tolerance", 0, "--quiet")
        assert run("solve", "game.csv", *words, "--out", magnet[:7]) == 3
        found.append(policy_files.load(Path(magnet[:7]), games.load("game.csv")).probabilities[0])
    np.testing.assert_allclose(*found, rtol=1e-14)


def test_the_judge_counts_repeats(installed: Path) -> None:
    for name in ("outside_judge", "outside_example.judge:fewer_repeats", f"{PACKAGE / 'judge.py'}:fewer_repeats"):
        judge = bridge.judges.load(name)
        assert judge(["q", "q"], ["a b", "a a"], ["a a", "b b"]).tolist() == [0.75, 0.5]


def test_the_method_halves_its_pull(installed: Path) -> None:
    for name in ("outside_method", "outside_example.method:Cooling", f"{PACKAGE / 'method.py'}:Cooling"):
        method = bridge.methods.load(name)(alpha=0.3, half=20.0)
        alphas = [method.numbers(in_round(k)).alpha for k in (0, 20, 40)]
        np.testing.assert_allclose(alphas, [0.3, 0.15, 0.1], rtol=1e-6)
    assert bridge.methods.load("mpo") is bridge.MPO


def test_the_family_computes_what_the_same_llama_computes(installed: Path) -> None:
    """Gemma is a Llama with other scales: 1 + weight in its norms, sqrt(width) in its embedding, a tied head."""
    width = 16
    gemma = CONFIG | {"model_type": "gemma", "hidden_size": width, "head_dim": 8, "hidden_act": "gelu"}
    bridge.save(bridge.init(gemma, jax.random.key(3)), "gemma")
    tensors = load_file("gemma/model.safetensors")
    rng = np.random.default_rng(0)
    tensors = {n: rng.normal(0, 0.3, t.shape).astype("f") if "norm" in n else t for n, t in tensors.items()}
    save_file(tensors, "gemma/model.safetensors", {"format": "pt"})
    same = {name: 1 + tensor if "norm" in name else tensor for name, tensor in tensors.items()}
    same["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    same["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"] * np.float32(width**0.5)
    llama = gemma | {"model_type": "llama", "hidden_act": "gelu_pytorch_tanh", "tie_word_embeddings": False}
    Path("llama").mkdir()
    Path("llama/config.json").write_text(json.dumps(llama))
    save_file(same, "llama/model.safetensors", {"format": "pt"})
    rows, mask = jnp.array([[1, 4, 2, 7]]), jnp.ones((1, 4), bool)
    expected = bridge.load("llama").log_probs(rows, mask)
    np.testing.assert_allclose(bridge.load("gemma").log_probs(rows, mask), expected, rtol=2e-5, atol=2e-6)
    named = bridge.load("gemma", family="outside_example:family")
    assert bridge.save(named, "again")
    assert json.loads(Path("again/config.json").read_text())["architectures"] == ["GemmaForCausalLM"]
    with pytest.raises(bridge.BridgeError, match="expected none, the model_type 'llama' is built in"):
        bridge.load("llama", family="outside_example:family")


def test_a_command_draws_from_a_family_that_is_installed_or_named(model: Path, installed: Path) -> None:
    """The `model_type` of the checkpoint finds the installed family; `--family` names the same one."""
    gemma = CONFIG | {"model_type": "gemma", "hidden_act": "gelu"}
    shutil.copytree(model, "gemma", ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    bridge.save(bridge.init(gemma, jax.random.key(3)), "weights")
    shutil.copytree("weights", "gemma", dirs_exist_ok=True)
    Path("prompts.jsonl").write_text('{"prompt": "a"}\n')
    words = ("--dataset-name", "prompts.jsonl", "--num-generations", 2, "--max-new-tokens", 3)
    found = []
    for family in ((), ("--family", "outside_example:family")):
        assert mpo("generate", "--model-name-or-path", "gemma", *words, "--output-file", "out.jsonl", *family) == 0
        found.append(Path("out.jsonl").read_text())
    assert found[0] == found[1]


def test_a_run_with_code_from_outside_trains_and_asks_for_it_again(
    model: Path, installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a pull that never fades it is MPO with a fixed magnet, number for number."""
    Path("prompts.jsonl").write_text("".join(f'{{"prompt": "{text}"}}\n' for text in ("a", "c", "ab")))
    given = ("--dataset-name", "prompts.jsonl", "--max-steps", 2, "--quiet", *SIZES)

    def train(out: str, *more: Any) -> int:
        return mpo("train", "--model-name-or-path", model, "--output-dir", out, *given, *more)

    assert train("mine", "--method", "outside-method", "--set", "half=1e30", "--judge", "outside_judge") == 0
    assert train("mpo", "--magnet", "fixed", "--judge", f"{PACKAGE / 'judge.py'}:fewer_repeats") == 0
    mine, theirs = (bridge.load(f"{out}/policy").arrays() for out in ("mine", "mpo"))
    assert all(np.array_equal(mine[name], theirs[name]) for name in theirs)
    capsys.readouterr()
    resume = ("train", "--config", "mine/config.yaml", "--resume")
    for missing, words in {"method": ("--judge", "outside_judge"), "judge": ("--method", "outside_method")}.items():
        assert mpo(*resume, *words) == 2
        said = capsys.readouterr().err
        assert (
            f": {missing} is code from outside, which no file brings in: name it on the command line, --{missing}"
            in said
        )
        assert said.count("\n") == 1
    assert mpo(*resume, "--method", "outside_method", "--judge", "outside_judge") == 0
    capsys.readouterr()
    assert mpo("export", "mine", "--output-dir", "out") == 2
    assert "name it on the command line, --method outside_method" in capsys.readouterr().err
    assert mpo("export", "mine", "--output-dir", "out", "--method", "outside_method") == 0


# -------------------------------------------------------------------- what is refused

OUTSIDE = """
import dataclasses
import jax
import mmd
from outside_example.algorithm import Alternating
from outside_example.method import Cooling

@dataclasses.dataclass(frozen=True)
class Lacking:
    name = "lacking"
    keeps_best = False
    def resolve(self, game): return self
    def init(self, game, log_policy): return None

@dataclasses.dataclass(frozen=True)
class Unregistered(Alternating):
    name = "unregistered"

class Posing(Alternating):
    name = "mmd"

def failing(n: int = 1) -> mmd.Game:
    raise RuntimeError("no cards")

class Family:
    TENSORS = {}

class Chanceless:
    name = "chanceless"
    initial = player = actions = next = infoset = utility = print

number = 3
STILL = mmd.Fixed()

class Coin:
    name = "coin"
    def initial(self): return ()
    def player(self, state): return len(state) - 2 if state else 0
    def actions(self, state): return ("heads", "tails")
    def chance(self, state): return ["heads", "tails"]
    def next(self, state, action): return (*state, action)
    def infoset(self, state): return "hide"
    def utility(self, state): return 1.0

class Seven(Coin):
    def player(self, state): return 7

class OneWord(Coin):
    def actions(self, state): return "heads"

class Paid(Coin):
    def player(self, state): return -2 if state else 0

def traced(**methods):
    class Wrong(Alternating):
        name = "wrong"
    for name, method in methods.items():
        setattr(Wrong, name, method)
    return jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True, kw_only=True)(Wrong))

def boom(*_): raise RuntimeError("boom")
def vector(self, game, state):
    found = Alternating.policy(self, game, state)
    return found._replace(nash_conv=found.log_policy[0])
def ninth(self, game, state):
    found = Alternating.policy(self, game, state)
    return found._replace(iterate=9 + 0 * state.iteration)

Failing = traced(step=boom)
Resting = traced(step=lambda self, game, state: state)
Branching = traced(step=lambda self, game, state: state if state.iteration else state)
Losing = traced(step=lambda self, game, state: None)
Growing = traced(step=lambda self, game, state: state._replace(iteration=state.iteration + 0.5))
Stateless = traced(init=lambda self, game, log_policy: log_policy)
Bare = traced(policy=lambda self, game, state: state.log_policy)
Vector = traced(policy=vector)
Ninth = traced(policy=ninth)
Silent = traced(diagnostics=lambda self, game, state: None)
Unresolved = traced(resolve=lambda self, game: None)
Unwilling = traced(resolve=boom)
Numbered = traced()
Numbered.name = 3

def hosted(run):
    class Wrong:
        name = "wrong"
        keeps_best = True
        def resolve(self, game): return self
    Wrong.run = run
    return dataclasses.dataclass(frozen=True)(Wrong)

def stop(self, game, limits, report): raise SystemExit(0)
Breaking = hosted(boom)
Leaving = hosted(stop)
Twofold = hosted(lambda self, game: None)

class Shy(mmd.Fixed):
    def share(self, k, measured=None): return None

class Wide(mmd.Fixed):
    def share(self, k, measured=None): return jax.numpy.ones(3)

class Lost(mmd.Fixed):
    def alpha(self, alpha, eta, k): raise RuntimeError("lost")

class Half(mmd.Fixed):
    def share(self, k, measured): return 0.5

class Needy(Cooling):
    def check_settings(self): raise RuntimeError("needy")

class Idle(Cooling):
    def play(self, state, arena): raise RuntimeError("idle")
"""
REFUSED = {
    "solve absent_module:f": "game absent_module:f: cannot import it (ModuleNotFoundError: No module named 'absent_mod",
    "solve absent.py:f": "game absent.py:f: there is no file absent.py",
    "solve broken.py:f": "game broken.py:f: cannot import it (ZeroDivisionError: division by zero at broken.py:3)",
    "solve syntax:f": "game syntax:f: cannot import it (File",
    "solve mine:absent": "game mine:absent: the module mine has no 'absent'",
    "solve mine.py:number": "game mine.py:number: expected a Game, rules as games.rules.Rules, or a function that",
    "solve mine:Chanceless": "game mine:Chanceless: rules without chance: expected name, initial, player, actions, ch",
    "solve mine:failing:n=2": "game mine:failing: raised RuntimeError: no cards at mine.py:",
    "solve mine:failing:cards=2": "mine:failing has no parameter 'cards': known are n",
    "solve outside_game:bet=high": "outside_game: expected bet to be of type float, got 'high'",
    "solve kuhn_pokre:small": "try kuhn_poker for a built-in game",
    "solve game.csv --algorithm mine:number": "algorithm mine:number: expected a dataclass that is a mmd.Algorithm or ",
    "solve game.csv --algorithm mine:Lacking": "and Lacking has no 'step'",
    "solve game.csv --algorithm mine:Unregistered": "expected @jax.tree_util.register_dataclass above Unregistered",
    "solve game.csv --algorithm mine:Posing": "expected a name of its own for Posing, got 'mmd', which is built in",
    "solve game.csv --algorithm outside_algorithm --magnet fixed": "outside_algorithm takes no --magnet",
    "solve game.csv --algorithm outside_algorithm --eta -1": "expected eta > 0, got -1.0",
    "solve mine.py": "game mine.py: expected the name of a game in that file as well: mine.py:NAME",
    "solve mine:Coin": "coin: expected chance to return pairs of an outcome and its probability, got 'tails'",
    "solve mine:Seven": "coin: expected player to return 0, 1, CHANCE or TERMINAL, got 7",
    "solve mine:OneWord": "coin: expected actions to return a sequence of texts, got 'heads'",
    "solve mine:Paid": "coin: expected utility to return two numbers, one for each player, got 1.0",
    "solve game.csv --algorithm mine:Failing": "algorithm wrong: step raised RuntimeError: boom at mine.py:",
    "solve game.csv --algorithm mine:Resting": "wrong: expected step to add 1 to the state's iteration, got 0",
    "solve game.csv --algorithm mine:Branching": "wrong: step raised jax.errors.TracerBoolConversionError",
    "solve game.csv --algorithm mine:Losing": "wrong: expected step to return a state like init's, got None",
    "solve game.csv --algorithm mine:Growing": "expected step to keep state.iteration of int64 and shape (), got float",
    "solve game.csv --algorithm mine:Stateless": "expected init to return a state whose iteration is an integer of",
    "solve game.csv --algorithm mine:Bare": "wrong: expected policy to return a mmd.Candidate, got (",
    "solve game.csv --algorithm mine:Vector": "expected policy to return a nash_conv of floating kind and shape ()",
    "solve game.csv --algorithm mine:Ninth": "expected policy to return an iterate from 0 to 3 (last, average, pol",
    "solve game.csv --algorithm mine:Silent": "wrong: expected diagnostics to return mmd.Diagnostics, got None",
    "solve game.csv --algorithm mine:Unresolved": "wrong: expected resolve to return an algorithm, got None",
    "solve game.csv --algorithm mine:Unwilling": "wrong: resolve raised RuntimeError: boom at mine.py:",
    "solve game.csv --algorithm mine:Numbered": "algorithm mine:Numbered: expected the name of ",
    "solve game.csv --algorithm mine:Breaking": "algorithm wrong: run raised RuntimeError: boom at mine.py:",
    "solve game.csv --algorithm mine:Leaving": "algorithm wrong: run raised SystemExit: 0 at mine.py:",
    "solve game.csv --algorithm mine:Twofold": "algorithm wrong: run raised TypeError: ",
    "solve game.csv --algorithm mmd --magnet mine:Shy": "magnet Shy: expected share to return one number, got None",
    "solve game.csv --algorithm mmd --magnet mine:Wide": "magnet Wide: expected share to return one number, got Shape",
    "solve game.csv --algorithm mmd --magnet mine:Lost": "magnet Lost: alpha raised RuntimeError: lost at mine.py:",
    "lab game.csv --methods mine:Failing --iterations 9 --out o": "wrong: step raised RuntimeError: boom at ",
    "compare game.csv --algorithms mine:Unwilling": "algorithm wrong: resolve raised RuntimeError: boom at mine.py:",
    "compare game.csv --algorithms mmd,mine:absent": "algorithm mine:absent: the module mine has no 'absent'",
    "solve game.csv --algorithm mmd --magnet mine:number": "magnet mine:number: expected a mmd.Magnet, or a class",
    "solve game.csv --algorithm mmd --center uniform --magnet mine:STILL": "magnet mine:STILL: is one object and takes",
    "solve game.csv --algorithm mmd --magnet outside_magnet:each=2": "outside_magnet has no parameter 'each'",
}
REFUSED_BY_MPO = {
    "--method mine:number": "method mine:number: expected a class that derives from llm_bridge.Method",
    "--method outside_method --set half=much": "outside_method: expected half to be of type float, got 'much'",
    "--method outside_method --set half=-1": "expected half > 0, in rounds, got -1.0",
    "--method outside_method --set judge=x": "outside_method has no 'judge' to --set",
    "--method mine.py:absent": "method mine.py:absent: the file mine.py has no 'absent'",
    "--method mine:Needy": "method mine:Needy: raised RuntimeError: needy at mine.py:",
    "--magnet mine:number": "magnet mine:number: expected a mmd.Magnet, or a class that derives from it",
    "--judge mine.py": "judge mine.py: expected the name of a function in that file as well: mine.py:NAME",
    "--method outside_method --set engine=x": "has no 'engine' to --set, expected estimator",
    "--judge mine:number": "judge int: cannot be called",
    "--judge broken.py:f": "judge broken.py:f: cannot import it (ZeroDivisionError: division by zero at broken.py:3)",
    "--config judge.yaml": "judge.yaml:1: judge is code from outside, which no file brings in: name it on the command",
    "--config method.yaml": "method.yaml:1: method is code from outside",
    "--config magnet.yaml": "magnet.yaml:1: magnet is code from outside",
}


@pytest.fixture
def mine(installed: Path) -> Path:
    """The same folder, with code of one's own in it, some of it broken."""
    (installed / "mine.py").write_text(OUTSIDE)
    (installed / "broken.py").write_text("\n\n1 / 0\n")
    (installed / "syntax.py").write_text("def f(:\n")
    (installed / "judge.yaml").write_text("judge: mine:judge\n")
    (installed / "method.yaml").write_text("method: outside-method\n")
    (installed / "magnet.yaml").write_text("magnet: mine.py:Magnet\n")
    yield installed
    sys.modules.pop("mine", None)


@pytest.mark.parametrize("line", REFUSED)
def test_what_mmd_refuses_is_one_sentence(line: str, mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Behind what a slow machine says of its progress."""
    assert run(*line.split()) == 2
    *before, said = capsys.readouterr().err.splitlines()
    assert all(re.match(r"\w+: (compiling|iteration \d)", one) for one in before), before
    assert said.startswith("mmd: ")
    assert REFUSED[line] in said


@pytest.mark.parametrize("flags", REFUSED_BY_MPO)
def test_what_mpo_refuses_is_one_sentence(flags: str, mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (mine / "prompts.jsonl").write_text('{"prompt": "a"}\n')
    known = [] if "judge" in flags else ["--judge", "outside_judge"]
    words = ["--model-name-or-path", "m", "--dataset-name", "prompts.jsonl", "--output-dir", "o", *known]
    assert mpo("train", *words, *flags.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith("mpo: ")
    assert said.count("\n") == 1
    assert REFUSED_BY_MPO[flags] in said
    assert "mine" not in sys.modules or "config" not in flags


def test_a_magnet_may_answer_with_a_plain_number(mine: Path) -> None:
    """A share of 1/2 in every step is what `MovingAverage` says with an array."""
    found = [
        mmd.solve(PAYOFFS, mmd.MagneticMirrorDescent(eta=0.1, alpha=0.1, magnet=magnet), max_iterations=20)
        for magnet in (mmd.magnets.load("mine:Half"), mmd.MovingAverage(rate=0.5))
    ]
    assert found[0].exploitability == found[1].exploitability


def test_what_is_no_feedback_is_refused() -> None:
    algorithm = mmd.MPO()
    object.__setattr__(algorithm, "feedback", 3)  # as without the types that tests check
    with pytest.raises(mmd.GameError, match=r"expected a feedback such as mmd.Exact\(\) or mmd.NoisyJudge\(\), got 3"):
        mmd.solve("preference:cycle", algorithm)


def test_what_on_check_raises_is_not_the_algorithms(installed: Path) -> None:
    """It belongs to who called `solve`, and comes back as it is."""

    def on_check(_: Any) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        mmd.solve(PAYOFFS, mmd.algorithms.made("outside_host_algorithm"), on_check=on_check)


def test_a_method_that_fails_in_a_run_is_one_sentence_and_a_traceback(
    model: Path, mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("prompts.jsonl").write_text('{"prompt": "a"}\n{"prompt": "c"}\n')
    given = ("--dataset-name", "prompts.jsonl", "--max-steps", 1, "--quiet", "--judge", "outside_judge", *SIZES)
    words = ("train", "--model-name-or-path", model, "--output-dir", "idle", "--method", "mine:Idle", *given)
    assert mpo(*words) == 2
    said = capsys.readouterr().err
    assert "mpo: method mine:Idle: raised RuntimeError: idle at mine.py:" in said
    assert said.endswith("its traceback is in idle/method_error.txt\n")
    assert "in play" in Path("idle/method_error.txt").read_text()
    for magnet, why in {"Shy": "expected share to return one number, got None", "Lost": "alpha raised Runtime"}.items():
        words = ("train", "--model-name-or-path", model, "--output-dir", magnet, "--magnet", f"mine:{magnet}", *given)
        assert mpo(*words) == 2
        assert f"magnet {magnet}: {why}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "said"),
    {
        "architecture = 3": "mine:F: expected architecture to be a function of the configuration's fields, got 3",
        "TENSORS = {'head': 1}": "mine:F: expected TENSORS to be a bridge.Stored by each weight's name",
        "PREFIX = None": "mine:F: expected PREFIX to be a text, got None",
        "IGNORED = 'a'": "mine:F: expected IGNORED to be a tuple of texts, got 'a'",
        "ARCHITECTURE = 5": "mine:F: expected ARCHITECTURE to be a text, got 5",
        "architecture = lambda fields: {}": "the family's architecture to return a bridge.Architecture, got {}",
        "architecture = lambda fields: 1 / 0": "the family's architecture raised ZeroDivisionError: division by zero",
        "architecture = lambda: None": "the family's architecture raised TypeError: F.<lambda>() takes 0 positional",
    }.items(),
)
def test_what_is_no_family_is_one_sentence(changed: str, said: str, mine: Path) -> None:
    known = "TENSORS, PREFIX, IGNORED, ARCHITECTURE = {}, '', (), 'F'"
    (mine / "mine.py").write_text(f"class F:\n    {known}\n    architecture = staticmethod(print)\n    {changed}\n")
    changed_function = "architecture = lambda" in changed
    if changed_function:
        text = (mine / "mine.py").read_text().replace(changed, changed.replace("= ", "= staticmethod(", 1) + ")")
        (mine / "mine.py").write_text(text)
    with pytest.raises(bridge.BridgeError) as refused:
        bridge.init(CONFIG | {"model_type": "new"}, jax.random.key(0), family="mine:F")
    assert said in str(refused.value)


def test_a_family_says_where_every_weight_lies(model: Path, mine: Path) -> None:
    (mine / "mine.py").write_text(
        "import llm_bridge as bridge\n"
        "llama = bridge.families.load('llama')\n"
        "class F:\n"
        "    architecture, PREFIX, IGNORED, ARCHITECTURE = staticmethod(llama.architecture), '', (), 'F'\n"
        "    TENSORS = {name: there for name, there in llama.TENSORS.items() if name != 'final_norm'}\n"
    )
    shutil.copytree(model, "new")
    config = json.loads(Path("new/config.json").read_text()) | {"model_type": "new"}
    Path("new/config.json").write_text(json.dumps(config))
    with pytest.raises(bridge.BridgeError, match="TENSORS do not say what is stored as final_norm"):
        bridge.load("new", family="mine:F")


def test_a_checkpoint_brings_no_code_in(mine: Path) -> None:
    for name in ("mine:Family", "mine.py:Family"):
        with pytest.raises(bridge.BridgeError, match="unsupported model_type 'mine"):
            bridge.init(CONFIG | {"model_type": name}, jax.random.key(0))
    assert "mine" not in sys.modules
    with pytest.raises(bridge.BridgeError, match="and it has no architecture"):
        bridge.init(CONFIG | {"model_type": "new"}, jax.random.key(0), family="mine:Family")


def test_a_file_is_run_once_and_again_when_it_has_changed(installed: Path) -> None:
    door, path = doors.Door("judges", ValueError, "a judge"), installed / "counted.py"
    path.write_text("class A: pass\n")
    first = door.find("counted.py:A").thing
    assert door.find(f"{path}:A").thing is first
    path.write_text("class A: pass  # changed\n")
    assert door.find("counted.py:A").thing is not first


# -------------------------------------------------------------------- a Game, an array, a name or a file


def test_a_game_is_given_as_a_game_an_array_a_name_or_a_file(installed: Path) -> None:
    """At the uniform policies the best responses gain 1/4 and 1/4: (1/2 - 1/4) and (1/4 - 0)."""
    uniform = (np.array([1.0, 0.5, 0.5]),) * 2
    np.save("game.npy", PAYOFFS)
    for given in (games.load("game.csv"), PAYOFFS, PAYOFFS.tolist(), "game.csv", Path("game.npy")):
        certificate = mmd.certify(given, uniform)
        assert (certificate.value, certificate.best_response_gains) == (0.25, (0.25, 0.25))
        assert mmd.exploitability(given, uniform) == 0.25
    for given in (PAYOFFS, "game.csv"):
        np.testing.assert_allclose(mmd.solve(given, tolerance=1e-10).value, 0.2, rtol=0, atol=1e-10)
    np.testing.assert_allclose(mmd.solve_many(["game.csv", PAYOFFS], tolerance=1e-10).values, 0.2, rtol=0, atol=1e-10)
    for nothing in (None, 3, {}):
        with pytest.raises(mmd.GameError, match="expected a Game, a matrix of payoffs, or a game's name or file, got"):
            mmd.certify(nothing, uniform)
    with pytest.raises(mmd.GameError, match="put it in a list"):
        mmd.solve_many("game.csv")


def test_names_need_the_package_that_knows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """`mmd` imports no games: `games` registers its loader, or is installed as one."""
    monkeypatch.setattr(game_module, "_LOADERS", [])
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: ())
    with pytest.raises(mmd.GameError, match="import games first"):
        game_module.as_game("kuhn_poker")
    point = SimpleNamespace(load=lambda: games.load)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point] * (group == game_module.LOADERS))
    assert game_module.as_game("kuhn_poker").name == "kuhn_poker:cards=3"
