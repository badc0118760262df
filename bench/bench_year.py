"""The training pipeline on a year of flights: against the same cells in one plain Python process, and how much of
it is fitting the model"""
import ast
import json
import shutil
from pathlib import Path

import yaml
from harness import BENCH, HOME, PYTHON, ROOT, Result, rounds, spawn, versions

WORK = HOME/"work"/"year"
STAGES = {
    name: f"nbs/training/0{number}_{name}.ipynb"
    for number, name in enumerate(("ingest", "explore", "prepare", "train", "evaluate", "register"), 1)
}
FITTING = ("= fit(ESTIMATORS", "= (refit(")  # the cells that fit, by what they call
GIVEN = {"max_latency_ms": 1000.0}  # a busy machine may not change what is done
PIPELINE = "pipelines/training/pipeline.yml"


def project():
    "A copy of the project without a workspace"
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    for name in ("nbs", "mlops_nb", "pipelines"): shutil.copytree(ROOT/name, WORK/name)
    for name in ("settings.ini", "pyproject.toml", ".amlignore"): shutil.copy(ROOT/name, WORK/name)


def ours() -> dict[str, float]:
    "The pipeline, from nothing"
    project()
    taken = spawn(
        [
            PYTHON.with_name("mlops-nb"),
            "run",
            PIPELINE,
            *(word for name, value in GIVEN.items() for word in ("--set", f"inputs.{name}={value}")),
        ],
        WORK,
        timeout=900,
    )
    found = [[seconds for source, seconds in cells("train") if word in source] for word in FITTING]
    if [len(one) for one in found] != [1, 1]: raise SystemExit(f"seconds of the cells that fit, one of each: {found}")
    return {**taken, "fit": sum(map(sum, found))}


def cells(stage: str) -> list[tuple[str, float]]:
    "The code cells of a stage of the last run, with their seconds"
    nb = json.loads(next(WORK.glob(f".mlops/jobs/training-*/{stage}/code/outputs/*.ipynb")).read_text())
    return [
        ("".join(cell["source"]), cell["metadata"]["papermill"]["duration"] or 0)
        for cell in nb["cells"]
        if cell["cell_type"] == "code"
    ]


def plain() -> dict[str, float]:
    """The cells below `## Run` of all stages, one after the other in one process: no notebook, no page, no
    isolation, nothing kept for the next run"""
    project()
    (WORK/"plain.json").write_text(json.dumps([job_of(WORK/path) for path in STAGES.values()]))
    taken = spawn(
        [PYTHON, BENCH / "pipeline" / "plain.py", "plain.json", *FITTING],
        WORK,
        {"MLFLOW_TRACKING_URI": f"sqlite:///{WORK}/mlflow.db", "MPLBACKEND": "agg"},
        timeout=900,
    )
    return {**taken, "fit": float((WORK/"fit.txt").read_text())}


def job_of(path: Path) -> list[str]:
    "The cells of a notebook's job as Python, its parameters set to those of pipeline.yml"
    below = json.loads(path.read_text())["cells"]
    below = below[next(number for number, cell in enumerate(below) if "".join(cell["source"]).startswith("## Run")):]
    return [
        parameters("".join(cell["source"]))
        if "parameters" in cell["metadata"].get("tags", ())
        else "".join(cell["source"])
        for cell in below
        if cell["cell_type"] == "code"
    ]


def parameters(source: str) -> str:
    "A cell of parameters with the values of the pipeline: folders lie side by side"
    found = {line.target.id: ast.literal_eval(line.value) for line in ast.parse(source).body}
    given = yaml.safe_load((WORK/PIPELINE).read_text())["inputs"] | GIVEN
    local = lambda value: value.replace("../../.mlops/sample/", "made/") if isinstance(value, str) else value
    return "\n".join(f"{name} = {given.get(name, local(value))!r}" for name, value in found.items())


if __name__ == "__main__":
    result = Result(
        "year",
        "The training pipeline on a year of flights, from nothing",
        "plain Python, one process",
        {"cpu": "CPU s", "wall": "wall s", "fit": "of which fitting, wall s", "rss": "largest process MB"},
        versions=versions(PYTHON, "mlops-nb", "scikit-learn", "pandas"),
    )
    measured = rounds({"plain Python, one process": plain, "mlops-nb run": ours})
    result.add(measured)
    of = lambda name: {key: one["median"] for key, one in result.rows[name].items()}
    mine, theirs = of("mlops-nb run"), of("plain Python, one process")
    result.target("wall time, times plain Python", mine["wall"]/theirs["wall"], 0.75)
    stages = {stage: sum(seconds for _, seconds in cells(stage)) for stage in STAGES}
    others = measured["mlops-nb run"][-1]["wall"] - sum(
        seconds for stage, seconds in stages.items() if stage != "explore"
    )
    result.notes += [
        f"Seconds in the cells of each step, in the last run: "
        f"{', '.join(f'{stage} {seconds:.1f}' for stage, seconds in stages.items())}; explore runs beside prepare and "
        f"train. All else, imports, processes, hashes and pages: {others:.1f} s.",
        f"Of plain Python's own wall time {1 - theirs['fit'] / theirs['wall']:.0%} is not model fitting: importing, "
        f"reading, checking, drawing, saving, judging. A runner can hide of that only what it does side by side.",
    ]
    result.write()
