"""What must never happen, tried long and often: wrong answers that look right, kills, damaged files, changed runs.

Tests run a short form of each. Read `small_games.py` first: is what is called converged right?
"""
