"""Reports: a page of HTML that stands in one file, asks nothing of the network, and shows what others wrote as text.

What a page says is made by the commands, `mmd report` and `mpo report`; how it is shown is here, the same for both.
Read `page.py` first: a page has sections, a section has blocks (`blocks.py`; `interactive.py` for those that a script
draws), and `assets/` has the style, the scripts, and uPlot, which draws curves. This room imports `mmd.host` only.
"""
