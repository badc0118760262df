"""Run the cells of all stages in this process, each stage in a namespace of its own: python plain.py CELLS.json
FITTING..."""
import json
import sys
import time
from pathlib import Path

cells, fitting, fit = json.loads(Path(sys.argv[1]).read_text()), sys.argv[2:], 0.0
for stage in cells:
    space = {"__name__": "__main__"}
    for cell in stage:
        start = time.perf_counter()
        exec(cell, space)
        if any(word in cell for word in fitting): fit += time.perf_counter() - start
Path("fit.txt").write_text(str(fit))
