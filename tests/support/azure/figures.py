"""Print the figures of the loopback: `python -m tests.support.azure.figures` runs its tests once, and prints what they
asked, what was checked and what it took"""
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support import ROOT


def main(words: list) -> int:
    "Run the tests, and print the table of operations, the share of requests checked, of mutations caught, and the time"
    with tempfile.TemporaryDirectory() as folder:
        report, began = Path(folder, "report.md"), time.monotonic()
        command = [sys.executable, "-m", "pytest", "tests/azure", "-rfEP", *words]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, "LOOPBACK_REPORT": str(report)},
                              capture_output=True, text=True)
        if not report.exists(): sys.exit(done.stdout[-3000:] + done.stderr[-1000:])
        print(report.read_text())
        caught = re.search(r"caught (\d+) of (\d+) mutations of (\d+) kinds of request", done.stdout)
        print(f"{caught[0]}: {int(caught[1]) / int(caught[2]):.1%}." if caught
              else "No mutation was tried: AZURE_REST_API_SPECS names no checkout of Azure's specifications.")
        print(f"{time.monotonic() - began:.0f} s.")
        if done.returncode: print(done.stdout[-5000:], file=sys.stderr)
    return done.returncode


if __name__ == "__main__": sys.exit(main(sys.argv[1:]))
