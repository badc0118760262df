"""Five small notebooks as a pipeline: what isolation and a record of every cell cost, compared with plain Python"""
import ast
import json
import os
import shutil
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness import BENCH, HOME, PYTHON, Missing, Result, peer, rounds, spawn, versions

sys.path.insert(0, str(BENCH/"pipeline"))
from drive import FROM, OUT

from mlops_nb.jobs.launcher import idle_launchers

DRIVE = BENCH/"pipeline"/"drive.py"
PEERS = {  # row: (environment, function of drive.py, packages whose versions count)
    "papermill, command line": ("papermill", "papermill_cli", ["papermill"]),
    "papermill, API": ("papermill", "papermill", []),
    "nbclient": ("papermill", "nbclient", ["nbclient"]),
    "execnb, one process": ("execnb", "execnb", ["execnb"]),
    "ploomber": ("ploomber", "ploomber", ["ploomber"]),
    "ploomber, own engine": ("ploomber", "ploomber_engine", ["ploomber-engine"]),
    "Prefect with papermill": ("prefect", "prefect", ["prefect"]),
    "dagstermill": ("dagstermill", "dagstermill", ["dagstermill"]),
    "Kedro, functions": ("kedro", "kedro", ["kedro"]),
    "ZenML, functions": ("zenml", "zenml", ["zenml"]),
}
QUIET = {
    "PREFECT_HOME": str(HOME / "prefect-home"),
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PLOOMBER_STATS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "ZENML_CONFIG_PATH": str(HOME / "zenml-home"),
    "ZENML_ANALYTICS_OPT_IN": "false",
    "KEDRO_DISABLE_TELEMETRY": "true",
    "AUTO_OPEN_DASHBOARD": "false",
}
# read and not imported: a child's largest memory is at least that of the process that started it
SOURCE = (BENCH / "pipeline" / "stages.py").read_text()
TYPES = "from mlops_nb.parameters import Output, uri_file"


def notebook(path: Path, *cells: tuple[str, str, list]):
    "Write cells of (kind, text, tags) as a notebook"
    made = [
        {
            "cell_type": kind,
            "id": f"c{number}",
            "metadata": {"tags": tags} if tags else {},
            "source": text,
            **({"outputs": [], "execution_count": None} if kind == "code" else {}),
        }
        for number, (kind, text, tags) in enumerate(cells)
    ]
    kernel = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
    }
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": kernel, "cells": made}))


@dataclass
class Stage:
    "A function of stages.py"
    name: str
    parameters: list[str]
    source: str

    def place(self, name: str) -> str: return OUT[FROM.get(name, self.name)]  # the file behind a parameter


STAGES = [
    Stage(node.name, [one.arg for one in node.args.args], ast.get_source_segment(SOURCE, node))
    for node in ast.parse(SOURCE).body
    if isinstance(node, ast.FunctionDef)
]


def stage_notebook(path: Path, stage: Stage, parameters: str, extra: list | None = None):
    "A stage as a notebook: the same imports and the same code, its result shown"
    imports = "".join(line for line in SOURCE.splitlines(keepends=True) if line.startswith(("import", "from")))
    notebook(
        path,
        ("markdown", f"# {stage.name}", []),
        ("markdown", "## Run", []),
        *(extra or []),
        ("code", imports, []),
        ("code", parameters, ["parameters"]),
        ("code", stage.source, []),
        ("code", f"{stage.name}({', '.join(stage.parameters)})", []),
    )


def for_peers(folder: Path):
    "Notebooks that any tool can run: all paths are in the folder"
    folder.mkdir(parents=True, exist_ok=True)
    for stage in STAGES:
        lines = [f'{name} = "{folder/stage.place(name)}"' for name in stage.parameters]
        stage_notebook(folder/f"{stage.name}.ipynb", stage, "\n".join(lines))
        stage_notebook(
            folder / f"{stage.name}.ploomber.ipynb", stage, "\n".join([*lines, "upstream = None", "product = None"])
        )
        # it replaces the whole cell of parameters
        stage_notebook(
            folder / f"{stage.name}.dagstermill.ipynb", stage, "context = None", [("code", "\n".join(lines), [])]
        )


def for_us(folder: Path) -> Path:
    "The same stages as a pipeline of Azure ML"
    folder.mkdir(parents=True, exist_ok=True)
    jobs = {}
    for stage in STAGES:
        names = [name for name in stage.parameters if name != "out"]
        lines = [f'{name}: uri_file = "{stage.place(name)}"   # a file' for name in names] + [
            f'out: Output[uri_file] = "{stage.place("out")}"   # what it makes'
        ]
        stage_notebook(folder/f"{stage.name}.ipynb", stage, "\n".join(lines), [("code", TYPES, [])])
        words = " ".join(f"--{name} '${{{{inputs.{name}}}}}'" for name in names)
        jobs[stage.name] = {
            "type": "command",
            "command": f"python -m mlops_nb.step {stage.name}.ipynb {words} --out '${{{{outputs.out}}}}'",
            "code": ".",
            "environment": {"image": "python"},
            "outputs": {"out": {"type": "uri_file"}},
            "inputs": {name: f"${{{{parent.jobs.{FROM[name]}.outputs.out}}}}" for name in names},
        }
    file = folder/"pipeline.yml"
    # YAML reads JSON
    file.write_text(
        json.dumps({"type": "pipeline", "display_name": "five", "settings": {"force_rerun": True}, "jobs": jobs})
    )
    (folder/"settings.ini").write_text("[project]\nexperiment = five\n")
    return file


def drive(environment: str, function: str, work: Path) -> dict:
    "One run of a peer"
    python = peer(environment)
    path = {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}  # where its own commands are
    return spawn([python, DRIVE, function, work], cwd=work, env={**QUIET, **path})


def next_run(ours: Path) -> dict:
    "A run that takes over the launcher of the run before: its CPU counts, with all that it forks"
    settings = {"MLOPS_NB_LAUNCHER_IDLE": "300", "CI": ""}
    run = [PYTHON.with_name("mlops-nb"), "run", ours]
    if not idle_launchers(): spawn(run, ours.parent, settings)
    pid, = idle_launchers()
    before = used(pid)
    measured = spawn(run, ours.parent, settings)
    assert [*idle_launchers()] == [pid], "it was not taken over"
    return {**measured, "cpu": measured["cpu"] + used(pid) - before, "rss": max(measured["rss"], peak(pid))}


def used(pid: int) -> float:
    "CPU seconds of a process and of its children that have ended"
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def peak(pid: int) -> float:
    "The largest memory that a process has held, MB"
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


def ready(environment: str, found: dict, packages: list) -> None:
    "Install a peer before anything is measured, and note its versions"
    try: found.update(versions(peer(environment), *packages))
    except Missing: pass  # the round says why


def main(count: int = 3):
    work = HOME/"work"/"pipeline"
    shutil.rmtree(work, ignore_errors=True)
    for_peers(work/"peers")
    ours = for_us(work/"ours")
    result = Result(
        "pipeline",
        "Five small notebooks as a pipeline",
        baseline="plain Python, one process",
        versions=versions(PYTHON, "mlops-nb", "numpy", "pandas", "scikit-learn"),
    )
    for environment, _, packages in PEERS.values(): ready(environment, result.versions, packages)
    run = [PYTHON.with_name("mlops-nb"), "run", ours]
    candidates = {
        result.baseline: partial(spawn, [PYTHON, DRIVE, "plain", work / "peers"]),
        "plain Python, five processes": partial(spawn, [PYTHON, DRIVE, "processes", work / "peers"]),
        "mlops-nb": partial(spawn, run, work / "ours"),
        "mlops-nb, launcher of the run before": partial(next_run, ours),
        "mlops-nb, forking off": partial(spawn, run, work / "ours", {"MLOPS_NB_FORK": "0"}),
        **{
            name: partial(drive, environment, function, work / "peers")
            for name, (environment, function, _) in PEERS.items()
        },
    }
    result.add(rounds(candidates, count))
    best = result.rows["mlops-nb"]
    result.target("CPU, times plain Python in one process", best["cpu"]["ratio"], 1.4)
    result.target("wall, times plain Python in one process", best["wall"]["ratio"], 1.15)
    again = result.rows["mlops-nb, launcher of the run before"]["wall"]["ratio"]
    result.target("wall of the next run, times plain Python in one process", again, 0.6)
    for name, row in result.rows.items():
        if name in PEERS and row["cpu"]["median"] < best["cpu"]["median"]:
            result.notes.append(
                f"{name} needs less CPU than mlops-nb: {row['cpu']['ratio']:.2f} against {best['cpu']['ratio']:.2f}."
            )
    result.notes += [
        "mlops-nb runs each notebook in a process of its own and leaves an executed notebook, a page, a log and an "
        "MLflow run; Kedro and ZenML run functions, and leave no notebook; execnb isolates nothing.",
        "The launcher of the run before stays for five minutes; its own CPU is in its row, that of the first "
        "run, which started it, is not.",
        "The first run of a new workspace also makes MLflow's database; it is in the warm-up, as is the set-up of "
        "Prefect's and ZenML's databases.",
    ]
    result.write()


if __name__ == "__main__": main(*map(int, sys.argv[1:]))
