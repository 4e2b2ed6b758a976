"""What importing and using the library does to the process it happens in: nothing that was not asked for."""

import importlib
import inspect
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

IMPORT_EVERYTHING = """
import importlib, json, pkgutil, sys
import games, mmd
assert not {"flax", "transformers"} & set(sys.modules)
for package in (mmd, games):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
import jax
print(json.dumps({"modules": sorted(sys.modules), "x64": jax.config.jax_enable_x64}))
"""

SOLVE_IN_FLOAT32_PROCESS = """
import json
import jax, jax.numpy as jnp
import games, mmd
solution = mmd.solve(games.matrix.game([[0, -1, 3], [1, 0, -1], [-3, 1, 0]]))
exploitability = mmd.exploitability(solution.game, solution.policy)
print(json.dumps({
    "x64": jax.config.jax_enable_x64, "new_array": str(jnp.zeros(()).dtype), "dtype": solution.dtype,
    "converged": solution.converged, "exploitability": [solution.exploitability, exploitability],
}))
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter with none of this suite's settings."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_", "MPL"))}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )


def test_importing_every_module_starts_no_backend_and_prints_nothing() -> None:
    # With a platform that does not exist, whatever touches a device raises.
    done = run(IMPORT_EVERYTHING, JAX_PLATFORMS="none")
    report = json.loads(done.stdout)  # fails if anything else was printed
    assert done.stderr == ""
    assert report["x64"] is False
    libraries = {name.split(".")[0] for name in report["modules"]}
    assert not libraries & {"flax", "optax", "orbax", "transformers", "tokenizers", "torch", "matplotlib", "pyspiel"}


def test_the_bridge_costs_nothing_until_it_is_used() -> None:
    code = "import llm_bridge, sys; assert not {'jax', 'flax'} & set(sys.modules); print(dir(llm_bridge))"
    assert "load" in run(code).stdout
    code = "import llm_bridge, sys; llm_bridge.Policy, llm_bridge.load; assert 'transformers' not in sys.modules"
    run(code)


def test_a_policy_from_a_configuration_needs_no_checkpoint_libraries() -> None:
    absent = ("safetensors", "transformers", "tokenizers", "huggingface_hub", "tyro", "orbax")
    code = f"import sys; sys.modules |= dict.fromkeys({absent})\n"
    code += "import jax, llm_bridge as bridge\n"
    code += "config = dict(model_type='gpt2', n_layer=1, n_head=2, n_embd=8, vocab_size=16, n_positions=16)\n"
    code += "policy = bridge.init(config, jax.random.key(0))\n"
    code += "print(policy.log_probs(jax.numpy.array([[1, 2]]), jax.numpy.array([[1, 1]])).shape)"
    assert run(code).stdout.strip() == "(1, 2)"


def test_commands_start_without_scipy() -> None:
    run("import sys; import mmd.command.commands; assert 'scipy' not in sys.modules")


def test_float64_certificates_in_a_process_that_never_asked_for_float64() -> None:
    report = json.loads(run(SOLVE_IN_FLOAT32_PROCESS).stdout)
    assert report["x64"] is False
    assert report["new_array"] == "float32"
    assert report["dtype"] == "float64"
    assert report["converged"]
    assert max(report["exploitability"]) <= 1e-9


def test_every_public_name_exists_and_is_documented() -> None:
    import games
    import llm_bridge
    import mmd

    for package in (mmd, games, llm_bridge):
        for name in package.__all__:
            assert inspect.getdoc(getattr(package, name)), f"{package.__name__}.{name} has no docstring"


def test_every_algorithm_file_holds_one_algorithm_that_says_what_is_proven() -> None:
    from mmd import algorithms

    for module in pkgutil.iter_modules(algorithms.__path__):
        if module.name != "contract" and not module.name.startswith("_"):
            found = importlib.import_module(f"mmd.algorithms.{module.name}")
            assert found.ALGORITHM.name in algorithms.names()
            assert "roven" in (found.__doc__ or ""), f"{module.name} does not say what is proven"


def test_a_familys_module_is_there_without_an_import_of_its_own() -> None:
    code = "import games; print(callable(games.token_tree.from_preference), hasattr(games, 'tokentree'))"
    assert run(code).stdout.split() == ["True", "False"]
