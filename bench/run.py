"""Run every benchmark of this folder, or those that are named: python bench/run.py pipeline cli"""
import subprocess
import sys
from pathlib import Path

scripts = {path.stem.removeprefix("bench_"): path for path in sorted(Path(__file__).parent.glob("bench_*.py"))}
names = sys.argv[1:] or list(scripts)
if unknown := [name for name in names if name not in scripts]:
    sys.exit(f"error: there is no benchmark {unknown[0]!r}\n  accepted: {', '.join(scripts)}")
failed = [name for name in names if subprocess.run([sys.executable, scripts[name]]).returncode]
if failed: sys.exit(f"error: {', '.join(failed)} did not end well")
