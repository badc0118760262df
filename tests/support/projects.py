"Tables and projects that several tests of `mlops-nb new` use"
import os
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd

from tests.support import BIN


def failures(path: Path, rows: int = 1500) -> Path:
    "Machines that fail or not: text, holes, an id, a constant, a time, rows without a label"
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"when": pd.date_range("2026-01-01", periods=rows, freq="h").astype(str),
                          "site": rng.choice(["north", "south", "east"], rows), "load": rng.normal(size=rows).round(3),
                          "id": [f"r{i}" for i in range(rows)], "unit": "kW"})
    table["failed"] = np.where(table["load"] + (table.site == "north") + rng.normal(size=rows) > 1, "yes", "no")
    table.loc[::50, "load"], table.loc[5::97, "failed"] = np.nan, None
    table.sample(frac=1, random_state=0).to_csv(path, index=False)
    return path


def harvest(folder: Path, rows: int) -> Path:
    "A project of its own on machines that fail, with a time"
    data = failures(folder / "failures.csv", rows)
    command("new", "harvest", "--package", "harvest", "--data", str(data), "--target", "failed", "--time", "when",
            cwd=folder)
    return folder / "harvest"


def yields(path: Path) -> Path:
    "442 patients of scikit-learn's diabetes table: numbers only, no time"
    from sklearn.datasets import load_diabetes
    load_diabetes(as_frame=True, scaled=False).frame.to_parquet(path)
    return path


def turning(path: Path, rows: int = 3600) -> Path:
    "Ten months of a road that is wet or dry; from day 190 on it is wet far more often, which no column says"
    rng = np.random.default_rng(1)
    days = np.sort(rng.uniform(0, 300, rows))
    load, site = rng.normal(0, 1, rows), rng.choice(["north", "south", "east"], rows)
    risk = 1.5 * load + (site == "north") * 0.7 - 1.2 + (days >= 190) * 3.0
    when = (pd.Timestamp("2025-01-01") + pd.to_timedelta(days, unit="D")).strftime("%Y-%m-%d %H:%M")
    state = np.where(rng.uniform(size=rows) < 1 / (1 + np.exp(-risk)), "wet", "dry")
    pd.DataFrame({"when": when, "site": site, "load": load.round(3), "state": state}).to_csv(path, index=False)
    return path


def command(*words: str, cwd: Path, code: int = 0, timeout: float = 600) -> subprocess.CompletedProcess:
    "Run `mlops-nb`, and expect an exit code"
    done = subprocess.run([BIN / "mlops-nb", *map(str, words)], cwd=cwd, capture_output=True, text=True,
                          timeout=timeout)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def make(project: Path, target: str) -> str:
    "The project's own Makefile, with the packages of this environment instead of a `.venv` of its own"
    env = os.environ | {"PYTHONPATH": str(project), "PYTEST_ADDOPTS": ""}
    packages = project.parent / "packages"  # make takes no path with a blank
    if not packages.exists(): packages.symlink_to(BIN.parent)
    words = ["make", target, f"BIN={packages}/bin", "READY="]
    done = subprocess.run(words, cwd=project, capture_output=True, text=True, timeout=900, env=env)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    return done.stdout
