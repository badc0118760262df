"""The training pipeline on a year of flights: against the same cells in one plain Python process, and how much of it is fitting the model"""
import ast
import json
import shutil
from pathlib import Path

from harness import BENCH, HOME, PYTHON, ROOT, Result, rounds, spawn, versions

WORK = HOME/"work"/"year"
STAGES = {name: f"nbs/training/0{number}_{name}.ipynb" for number, name in enumerate(("ingest", "explore", "prepare", "train", "evaluate", "register"), 1)}
FITTING = ("= fit(ESTIMATORS", "= refit(")  # the cells that fit, by what they call
GIVEN = {"max_latency_ms": 1000.0}  # a busy machine may not change what is done
YEAR = {"first_month": "2013-01", "last_month": "2013-12", "every": 1, "train_start": "2013-01-01", "train_end": "2013-10-01", "test_end": "2014-01-01", "validation_days": 28}


def project():
    "A copy of the project without a workspace"
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    for name in ("nbs", "mlops_nb", "pipelines"): shutil.copytree(ROOT/name, WORK/name)
    for name in ("settings.ini", "pyproject.toml", ".amlignore"): shutil.copy(ROOT/name, WORK/name)


def ours() -> dict[str, float]:
    "The pipeline, from nothing"
    project()
    taken = spawn([PYTHON.with_name("mlops-nb"), "run", "pipelines/training/pipeline.yml", *(word for name, value in GIVEN.items() for word in ("--set", f"inputs.{name}={value}"))], WORK, timeout=900)
    job = next((WORK/".mlops"/"jobs").glob("training-*/"))
    return {**taken, "fit": sum(one["seconds"] for one in cells(job/"train") if any(word in one["source"] for word in FITTING))}


def cells(folder: Path) -> list[dict]:
    "The code cells of an executed notebook with their seconds"
    nb = json.loads(next(folder.glob("code/outputs/*.ipynb")).read_text())
    return [{"source": "".join(cell["source"]), "seconds": cell["metadata"]["papermill"]["duration"] or 0} for cell in nb["cells"] if cell["cell_type"] == "code"]


def plain() -> dict[str, float]:
    "The cells below `## Run` of all stages, one after the other in one process: no notebook, no page, no isolation, nothing kept for the next run"
    project()
    (WORK/"plain.json").write_text(json.dumps([job_of(WORK/path) for path in STAGES.values()]))
    taken = spawn([PYTHON, BENCH/"pipeline"/"plain.py", "plain.json", *FITTING], WORK, {"MLFLOW_TRACKING_URI": f"sqlite:///{WORK}/mlflow.db", "MPLBACKEND": "agg"}, timeout=900)
    return {**taken, "fit": float((WORK/"fit.txt").read_text())}


def job_of(path: Path) -> list[str]:
    "The cells of a notebook's job as Python, its parameters set to those of pipeline.yml"
    below = json.loads(path.read_text())["cells"]
    below = below[next(number for number, cell in enumerate(below) if "".join(cell["source"]).startswith("## Run")):]
    return [parameters("".join(cell["source"])) if "parameters" in cell["metadata"].get("tags", ()) else "".join(cell["source"]) for cell in below if cell["cell_type"] == "code"]


def parameters(source: str) -> str:
    "A cell of parameters with the values of the pipeline: folders lie side by side"
    found = {line.target.id: ast.literal_eval(line.value) for line in ast.parse(source).body}
    local = lambda value: value.replace("../../.mlops/sample/", "made/") if isinstance(value, str) else value
    return "\n".join(f"{name} = {(YEAR | GIVEN).get(name, local(value))!r}" for name, value in found.items())


if __name__ == "__main__":
    result = Result("year", "The training pipeline on a year of flights, from nothing", "plain Python, one process", {"cpu": "CPU s", "wall": "wall s", "fit": "of which fitting, wall s"},
                    versions=versions(PYTHON, "mlops-nb", "scikit-learn", "pandas"))
    result.add(rounds({"plain Python, one process": plain, "mlops-nb run": ours}))
    of = lambda name: {key: one["median"] for key, one in result.rows[name].items()}
    mine, theirs = of("mlops-nb run"), of("plain Python, one process")
    result.target("wall time, times plain Python", mine["wall"]/theirs["wall"], 1.4)
    result.target("share of the wall time that is not model fitting", 1 - mine["fit"]/mine["wall"], 0.25)
    result.notes.append(f"Of plain Python's own wall time {1 - theirs['fit']/theirs['wall']:.0%} is not model fitting: imports, reading, checking, drawing, saving, judging. No runner of these cells can go below that by more than what it does side by side.")
    result.write()
