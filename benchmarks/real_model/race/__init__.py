"""The race: preference methods on SmolLM2-135M-Instruct under three populations of judges, with a known truth.

Read `plan.py` first, which was written before the first run; then `forms.py`, the game whose truth is known.
`runner.py` does the work in pieces, `results.py` makes numbers of the folders, `page.py` writes the page of the docs.
"""
