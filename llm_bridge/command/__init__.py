"""The `mpo` command: flags and YAML, what they do, the directory of a run.

This room may import every other room of `llm_bridge`; nothing imports it. Read `options.py` first, which holds all
flags, then `commands.py` and `train_commands.py`. `cli.py` imports no JAX, so that `--help` is instant.
"""
