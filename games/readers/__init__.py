"""Games from elsewhere: files (.json, .csv, .tsv, .npy, .nfg, .efg) and an installed OpenSpiel.

A reader may import the modules of `games`, `mmd.game` and `mmd.host`. A file is read as it is or refused with the place
that is wrong. Read `files.py` first: it chooses the reader by the file's ending and holds the error that all readers
raise.
"""
