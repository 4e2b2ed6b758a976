"""Games from elsewhere: files (.json, .csv, .tsv, .npy, .nfg, .efg, PrefLib's ballots) and an installed OpenSpiel.

A reader may import the modules of `games`, `mmd.game` and `mmd.host`. A file is read as it is or refused with the place
that is wrong: `source.py` has that error. `games.load` chooses the reader by the file's ending. Read `files.py` first,
for matrices in .json, .csv, .tsv and .npy; `comparisons.py` and `preflib.py` read counts and ballots, `gambit.py`
trees.
"""
