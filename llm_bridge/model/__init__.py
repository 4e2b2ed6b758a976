"""The decoder: what it computes, from which weights, on which devices.

This room imports no other room. Read `architecture.py` first, a decoder as data, then `decoder.py`, which computes it;
`families/` has one file for each `model_type`. `ranges.py` and the errors of the whole package stand here as well,
because this is the ground floor.
"""
