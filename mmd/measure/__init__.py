"""What a policy is worth: best responses, the certificate, exact answers; solutions, run directories and figures.

This room may import `mmd.game` and what lies below it. `certificate.py` shares no code with the solvers: it imports
`mmd.game` alone. `exact.py` and `equilibria.py` are ground truth, which no solver imports. Read `certificate.py` first.
"""
