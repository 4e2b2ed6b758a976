"""The machine that a command runs on: files, versions, progress, signals, exit status; and code from outside.

Nothing here knows a game, and nothing here imports another room of `mmd`; every room may import this one, and so may
`llm_bridge`. Read `command_line.py` first: it says how a command ends.
`help.py` prints help, and `marks.py` is what stands beside the types of options.
`doors.py` alone imports code from outside, for the names that a user gives; `notebook.py` makes tables, `drawing.py`
figures.
"""
