"""Run every benchmark of this folder, or those that are named, and say which targets are met:

    python bench/run.py pipeline cli
"""
import subprocess
import sys
import time
from pathlib import Path

from harness import RESULTS, by_version, report

scripts = {path.stem.removeprefix("bench_"): path for path in sorted(Path(__file__).parent.glob("bench_*.py"))}
names = sys.argv[1:] or list(scripts)
if unknown := [name for name in names if name not in scripts]:
    sys.exit(f"error: there is no benchmark {unknown[0]!r}\n  accepted: {', '.join(scripts)}")
start = time.time()
failed = [name for name in names if subprocess.run([sys.executable, scripts[name]]).returncode]
written = {path.stem for path in RESULTS.glob("*.json") if path.stat().st_mtime >= start}
print(report([target for target in by_version() if target["benchmark"] in written]))
if failed: sys.exit(f"error: {', '.join(failed)} did not end well")
