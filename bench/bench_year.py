"""Where the time of the training pipeline goes on a year of flights: fitting the model, other work of the cells, and what the machinery adds"""
import json
import shutil

from harness import HOME, PYTHON, ROOT, Result, spawn, versions

COMMAND = PYTHON.with_name("mlops-nb")
FITTING = {"train": ("fit(ESTIMATORS", "= refit(")}  # the cells that fit, by what they call


def cells(folder) -> list[dict]:
    "The code cells of an executed notebook with their seconds"
    nb = json.loads(next(folder.glob("code/outputs/*.ipynb")).read_text())
    return [{"source": "".join(cell["source"]), "seconds": cell["metadata"]["papermill"]["duration"] or 0} for cell in nb["cells"] if cell["cell_type"] == "code"]


def main():
    work = HOME/"work"/"year"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for name in ("nbs", "mlops_nb", "pipelines"): shutil.copytree(ROOT/name, work/name)
    for name in ("settings.ini", "pyproject.toml", ".amlignore"): shutil.copy(ROOT/name, work/name)
    taken = spawn([COMMAND, "run", "pipelines/training/pipeline.yml", "--set", "inputs.max_latency_ms=1000"], work, timeout=900)
    result = Result("year", "The training pipeline on a year of flights, from nothing", units={"cpu": "CPU s", "wall": "wall s"}, versions=versions(PYTHON, "mlops-nb", "scikit-learn", "pandas"))
    result.add({"the whole command": [taken]})
    job, total, fitted = next((work/".mlops"/"jobs").glob("training-*/")), 0.0, 0.0
    for stage in ("ingest", "explore", "prepare", "train", "evaluate", "register"):
        found = cells(job/stage)
        seconds, fit = sum(one["seconds"] for one in found), sum(one["seconds"] for one in found if any(word in one["source"] for word in FITTING.get(stage, ())))
        result.add({f"cells of {stage}": [{"wall": seconds}]})
        total, fitted = total + seconds, fitted + fit
        if fit: result.notes.append(f"{stage}: {fit:.1f} s of {seconds:.1f} s fit the model.")
    share = (taken["wall"] - fitted) / taken["wall"]
    result.target("share of the wall time that is not model fitting", share, 0.25)
    result.notes.append("The steps explore and prepare run side by side; times of cells are wall times, and do not add up to the whole.")
    result.write()


if __name__ == "__main__": main()
