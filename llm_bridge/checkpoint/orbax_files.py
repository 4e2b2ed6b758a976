"""A wrapped module's weights on disk, as Orbax has them, and back.

    weights/        an Orbax checkpoint: a flat dictionary, name -> array, each shard written by who has it
    module.json     what the weights are of: the module's name, shape and precision of each, end tokens, temperature
    tokenizer*      copies of the tokenizer's files

`module.json` is written last, so a folder with it is whole. The module's own code is never written, and none is run.
"""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
from jax.experimental import multihost_utils

from llm_bridge.model.architecture import BridgeError
from llm_bridge.model.config import raise_all
from llm_bridge.model.tensor_files import read_json
from llm_bridge.policy.policy import Policy
from llm_bridge.policy.wrapping import wrapped_of

WEIGHTS, MANIFEST = "weights", "module.json"


def save_module(policy: Policy, folder: str | os.PathLike[str]) -> Path:
    """Write a wrapped policy's weights, from all processes of its mesh.

    Raises:
        BridgeError: the folder is in use, or cannot be written.
    """
    import orbax.checkpoint as ocp

    decoder, folder = wrapped_of(policy), Path(folder).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BridgeError(f"{folder}: exists and is not empty; choose another folder")
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("save_module")  # before anybody writes into it
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(folder / WEIGHTS, policy.arrays())
            checkpointer.wait_until_finished()
        if jax.process_index() == 0:
            known = {
                "module": policy.origin.model_type,
                "vocabulary": decoder.architecture.vocabulary,
                "temperature": decoder.temperature,
                "stop_tokens": policy.origin.stop_tokens,
                "weights": {name: [list(array.shape), array.dtype.name] for name, array in policy.arrays().items()},
            }
            part = folder / f".{MANIFEST}.part"
            part.write_text(json.dumps(known, indent=1) + "\n", "utf-8")
            part.replace(folder / MANIFEST)
    except OSError as error:
        raise BridgeError(f"{folder}: cannot be written ({error.strerror or error})") from error
    return folder


def restore(policy: Policy, folder: str | os.PathLike[str]) -> Policy:
    """The policy of a wrapped module with the weights that `bridge.save` has written, each read to where it belongs.

    Args:
        policy: of `bridge.wrap`; its module may have shapes instead of arrays (`nnx.eval_shape`), so that nothing is
            there twice.
        folder: as `bridge.save` writes it.

    Returns:
        The policy with those weights and their temperature.

    Raises:
        BridgeError: the folder is not whole, or holds the weights of another module.
    """
    import orbax.checkpoint as ocp

    decoder, folder = wrapped_of(policy), Path(folder).absolute()
    if not (folder / MANIFEST).exists():
        raise BridgeError(
            f"{folder}: has no {MANIFEST}, expected a folder that bridge.save has written of such a policy"
        )
    known = read_json(folder / MANIFEST)
    _check(known, policy, str(folder / MANIFEST))
    _, places = decoder.placed(policy.weights, decoder.mesh)
    wanted = {
        name: jax.ShapeDtypeStruct(tuple(shape), dtype, sharding=places[name])
        for name, (shape, dtype) in known["weights"].items()
    }
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            found = checkpointer.restore(folder / WEIGHTS, wanted)
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise BridgeError(f"{folder / WEIGHTS}: damaged or cannot be read ({reason})") from error
    return Policy(replace(decoder, temperature=float(known["temperature"])), found, policy.origin)


def _check(known: dict[str, Any], policy: Policy, where: str) -> None:
    """That the weights of a folder are those of the policy's module.

    Raises:
        BridgeError: they are not.
    """
    theirs, ours = known.get("weights"), {leaf.name: leaf for leaf in wrapped_of(policy).leaves}
    if not isinstance(theirs, dict) or not isinstance(known.get("temperature"), int | float):
        raise BridgeError(f"{where}: damaged, expected weights and a temperature")
    absent, unknown = sorted(set(ours) - set(theirs)), sorted(set(theirs) - set(ours))
    problems = [f"has no {name}, which {policy.origin.model_type} has" for name in absent]
    problems += [f"has {name}, which {policy.origin.model_type} has not" for name in unknown]
    problems += [
        f"{name} has the shape {tuple(theirs[name][0])}, expected {leaf.shape}"
        for name, leaf in ours.items()
        if name in theirs and tuple(theirs[name][0]) != leaf.shape
    ]
    raise_all(where, problems)
