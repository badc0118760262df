"""What a step costs: 5 to 5,000 trivial steps, 200 independent ones, and two that boost at once and share the cores"""
import json
import shutil
import sys
from functools import partial
from pathlib import Path

from bench_pipeline import TYPES, notebook
from harness import HOME, PYTHON, Result, rounds, spawn, versions

COMMAND = PYTHON.with_name("mlops-nb")
WIDE = 200  # independent steps
BOOST = """import sklearn
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier
X, y = make_classification(40000, 30, n_informative=20, random_state=seed)
model = HistGradientBoostingClassifier(max_iter=30, random_state=0).fit(X, y)
print(model.n_iter_)"""


def project(folder: Path, cells: list[str], count: int, chain: bool, variables: dict | None = None) -> Path:
    "A pipeline of `count` steps that run the same notebook, one after the other or independent"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder/"settings.ini").write_text("[project]\nexperiment = steps\n")
    notebook(
        folder / "step.ipynb",
        ("markdown", "# Step", []),
        ("markdown", "## Run", []),
        ("code", TYPES, []),
        ("code", 'seed: int = 0   # a number\nout: Output[uri_file] = "out.txt"   # what it makes', ["parameters"]),
        *[("code", text, []) for text in cells],
    )
    word = "python -m mlops_nb.step step.ipynb --seed '${{inputs.seed}}' --out '${{outputs.out}}'"
    jobs = {
        f"s{number}": {
            "type": "command",
            "command": word,
            "code": ".",
            "environment": {"image": "python"},
            "outputs": {"out": {"type": "uri_file"}},
            "environment_variables": variables or {},
            "inputs": {
                "seed": number,
                **({"before": f"${{{{parent.jobs.s{number - 1}.outputs.out}}}}"} if chain and number else {}),
            },
        }
        for number in range(count)
    }
    file = folder/"pipeline.yml"
    file.write_text(
        json.dumps({"type": "pipeline", "display_name": "steps", "settings": {"force_rerun": True}, "jobs": jobs})
    )
    return file


def run(file: Path, *words: str) -> dict: return spawn([COMMAND, "run", file, *words], cwd=file.parent, timeout=3000)


def main(sizes=(5, 20, 80, 320, 1000, 5000)):
    work, write = HOME/"work"/"steps", ['with open(out, "w") as file: file.write(str(seed))', "seed"]
    result = Result(
        "steps", "What a step costs", versions=versions(PYTHON, "mlops-nb", "scikit-learn", "threadpoolctl")
    )
    files = {size: project(work/f"{size}", write, size, chain=True) for size in sizes}
    for size in sizes:
        run(files[size]) if size == sizes[0] else shutil.copytree(
            work / f"{sizes[0]}" / ".mlops",
            work / f"{size}" / ".mlops",
            ignore=shutil.ignore_patterns("jobs", "mlartifacts"),
        )
    for size in sizes: (work/f"{size}"/".mlops"/"jobs").mkdir(exist_ok=True)
    for size in sizes:
        result.add(
            rounds({f"{size} trivial steps": partial(run, files[size])}, count=3 if size < 80 else 1, warm=False)
        )
    cost = lambda size: result.rows[f"{size} trivial steps"]["cpu"]["median"]
    slopes = [(cost(large) - cost(small)) / (large - small) for small, large in zip(sizes, sizes[1:])]
    result.notes.append("CPU a step between these sizes: " + ", ".join(f"{slope:.3f} s" for slope in slopes))
    result.target(
        "CPU a step, from the smallest to the largest",
        (cost(sizes[-1]) - cost(sizes[0])) / (sizes[-1] - sizes[0]),
        0.12,
        " s",
    )
    result.target("last slope against the first: above 1 is worse than linear", slopes[-1]/slopes[0], 1.5)
    rss = lambda size: result.rows[f"{size} trivial steps"]["rss"]["median"]
    result.target("memory of the largest process, KB a step of a pipeline",
                  (rss(sizes[-1]) - rss(sizes[0])) / (sizes[-1] - sizes[0]) * 1024, 25)
    wide, independent = project(work/"wide", write, WIDE, chain=False), f"{WIDE} independent trivial steps"
    ignored = shutil.ignore_patterns("jobs", "mlartifacts")
    shutil.copytree(work/f"{sizes[0]}"/".mlops", work/"wide"/".mlops", ignore=ignored)
    (work/"wide"/".mlops"/"jobs").mkdir(exist_ok=True)
    result.add(rounds({independent: partial(run, wide)}, count=1, warm=False))
    a_step = (result.rows[independent]["cpu"]["median"] - cost(sizes[0])) / (WIDE - sizes[0])
    result.target("CPU a step of independent ones, times that of a chain", a_step / slopes[-1], 1.2)
    boost = [BOOST, 'with open(out, "w") as file: file.write("done")']
    shared, greedy = (
        project(work / "shared", boost, 2, chain=False),
        project(work / "greedy", boost, 2, chain=False, variables={"OMP_NUM_THREADS": "2"}),
    )
    for file in (shared, greedy):
        shutil.copytree(
            work / f"{sizes[0]}" / ".mlops",
            file.parent / ".mlops",
            ignore=shutil.ignore_patterns("jobs", "mlartifacts"),
        )
    for file in (shared, greedy): (file.parent/".mlops"/"jobs").mkdir(exist_ok=True)
    result.add(
        rounds(
            {
                "two boosting steps at once, each with its share": partial(run, shared),
                "the same, each with all cores": partial(run, greedy),
                "the same, one after the other": partial(run, shared, "--jobs", "1"),
            },
            count=1,
            warm=False,
        )
    )
    at_once, alone = (
        result.rows[name]["wall"]["median"]
        for name in ("two boosting steps at once, each with its share", "the same, one after the other")
    )
    result.notes.append(
        f"Two independent steps at once take {at_once / alone:.2f} of the wall time of one after the other, where a "
        f"single step may use all cores."
    )
    result.write()


if __name__ == "__main__": main(*([tuple(map(int, sys.argv[1:]))] if sys.argv[1:] else []))
