"""The same command again, nothing changed: the real training pipeline here, five small stages in tools that reuse
results"""
import shutil
import subprocess
from functools import partial

from bench_pipeline import DRIVE, QUIET, STAGES, for_us
from harness import HOME, PYTHON, ROOT, Missing, Result, peer, rounds, spawn, versions

COMMAND = PYTHON.with_name("mlops-nb")
PIPELINE = ROOT/"pipelines"/"training"/"pipeline.yml"


def files(stage) -> tuple[list[str], str]:
    "The files that a stage reads and the one that it writes"
    return [stage.place(name) for name in stage.parameters if name != "out"], stage.place("out")


def dvc(folder) -> list:
    "The five stages as dvc.yaml, run once"
    python = peer("dvc")
    lines = ["stages:"]
    for stage in STAGES:
        reads, makes = files(stage)
        lines += [
            f"  {stage.name}:",
            f"    cmd: {PYTHON} {DRIVE} plain . {stage.name}",
            f"    deps: [{', '.join([str(DRIVE), *reads])}]",
            f"    outs: [{makes}]",
        ]
    (folder/"dvc.yaml").write_text("\n".join(lines) + "\n")
    command = [python.with_name("dvc"), "repro", "--quiet"]
    subprocess.run([python.with_name("dvc"), "init", "--no-scm", "--quiet"], cwd=folder, check=True)
    spawn(command, folder, {"DVC_NO_ANALYTICS": "1"})
    return command


def snakemake(folder) -> list:
    "The five stages as a Snakefile, run once"
    python = peer("snakemake")
    rules = [f'rule all:\n    input: "{files(STAGES[-1])[1]}"']
    for stage in STAGES:
        reads, makes = files(stage)
        rules += [
            f'rule {stage.name}:\n    input: {", ".join(map(repr, [str(DRIVE), *reads]))}\n    output: "{makes}"\n    '
            f'shell: "{PYTHON} {DRIVE} plain . {stage.name}"'
        ]
    (folder/"Snakefile").write_text("\n\n".join(rules) + "\n")
    command = [python.with_name("snakemake"), "--cores", "1", "--quiet"]
    spawn(command, folder)
    return command


def again(result: Result, name: str, make) -> dict:
    "A candidate of one peer, made ready; nothing where it cannot be had"
    folder = HOME/"work"/"unchanged"/name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        command = make(folder)
        result.versions.update(versions(peer(name), name))
        return {f"{name}, five stages": partial(spawn, command, folder, {**QUIET, "DVC_NO_ANALYTICS": "1"})}
    except Missing as reason:
        result.missing[name] = str(reason)
        return {}


def main():
    result = Result(
        "unchanged", "The same command again when nothing has changed", versions=versions(PYTHON, "mlops-nb")
    )
    small = HOME/"work"/"pipeline"/"again"
    ours = for_us(small)
    ours.write_text(ours.read_text().replace('"force_rerun": true', '"force_rerun": false'))
    spawn([COMMAND, "run", ours], small)
    spawn([COMMAND, "run", PIPELINE], ROOT, timeout=600)  # reuses what is there
    result.add(
        rounds(
            {
                "mlops-nb, the training pipeline (six notebooks, a year of flights)": partial(
                    spawn, [COMMAND, "run", PIPELINE], ROOT
                ),
                "mlops-nb, five notebooks": partial(spawn, [COMMAND, "run", ours], small),
                **again(result, "dvc", dvc),
                **again(result, "snakemake", snakemake),
            }
        )
    )
    mine = result.rows["mlops-nb, the training pipeline (six notebooks, a year of flights)"]
    result.target("wall of the training pipeline, unchanged", mine["wall"]["median"], 0.3, " s")
    result.write()


if __name__ == "__main__": main()
