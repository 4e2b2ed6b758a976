"""The `mmd` command: flags, what they do, what is printed.

This room may import every other room and the package `games`; nothing imports it. Read `options.py` first, which holds
all flags, then `commands.py`. `cli.py` imports neither JAX nor a game, so that `--help` is instant.
"""
