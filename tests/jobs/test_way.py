"The way of a file: a command reads each YAML file once and surveys each step once"
import collections
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

# Runs a command, and tells the YAML files that it opened and the steps that it looked up
SPY = """
import json, sys
opened, looked_up = [], []
def hear(event, args):
    if event == "open" and str(args[0]).endswith((".yml", ".yaml")): opened.append(str(args[0]))
sys.addaudithook(hear)
import mlops_nb.jobs.plan as plan
original = plan.lookup_step
def lookup_step(workspace, planned, step, *rest):
    looked_up.append(step.name)
    return original(workspace, planned, step, *rest)
plan.lookup_step = lookup_step
from mlops_nb.cli.main import main
try: main(prog_name="mlops-nb")
finally: print("SEEN", json.dumps([opened, looked_up]), file=sys.stderr)
"""

JOB = """
    type: pipeline
    inputs: {word: hello}
    jobs:
      first: {component: write.yml, inputs: {word: "${{parent.inputs.word}}"}}
      second: {component: write.yml, inputs: {word: again, before: "${{parent.jobs.first.outputs.out}}"}}
      inner: {type: pipeline, component: inner.yml, inputs: {before: "${{parent.jobs.second.outputs.out}}"}}
"""
WRITE = """
    name: write
    type: command
    inputs: {word: {type: string}, before: {type: uri_file, optional: true}}
    outputs: {out: {type: uri_file}}
    environment: file:environment.yml
    command: echo ${{inputs.word}} $[[${{inputs.before}}]] > ${{outputs.out}}
"""
INNER = """
    name: inner
    type: pipeline
    inputs: {before: {type: uri_file}}
    jobs: {last: {component: write.yml, inputs: {word: last, before: "${{parent.inputs.before}}"}}}
"""
FILES = {"job.yml": JOB, "write.yml": WRITE, "inner.yml": INNER,
         "environment.yml": "    name: here\n    image: ubuntu\n    conda_file: conda.yml\n",
         "conda.yml": "    dependencies: [python]\n"}


def watched(project, *words: str, code: int = 0):
    "How often a command opened each YAML file, and how often it looked up each step"
    env = {**os.environ, "MLOPS_NB_FORK": "0"}
    done = subprocess.run([sys.executable, "-c", SPY, *words], cwd=project.root, env=env, text=True,
                          capture_output=True)
    assert done.returncode == code, done.stdout + done.stderr
    found = re.search(r"SEEN (.*)", done.stderr)
    assert found
    opened, looked_up = json.loads(found[1])
    return collections.Counter(os.path.basename(path) for path in opened), collections.Counter(looked_up)


@pytest.fixture
def written(project):
    for name, text in FILES.items(): project.write(name, text)
    return project


ONCE, STEPS = dict.fromkeys(FILES, 1), ["first", "second", "inner.last"]


def test_a_command_reads_each_file_once_and_looks_up_each_step_once(written):
    assert watched(written, "run", "job.yml", "--dry-run") == (ONCE, {"first": 1})  # the others need what it makes
    assert watched(written, "run", "job.yml") == (ONCE, dict.fromkeys(STEPS, 1))
    assert watched(written, "run", "job.yml") == (ONCE, dict.fromkeys(STEPS, 1))  # unchanged
    assert watched(written, "run", "job.yml", "--dry-run") == (ONCE, dict.fromkeys(STEPS, 1))
    changed = watched(written, "run", "job.yml", "--set", "inputs.word=bye")
    assert changed == (ONCE, dict.fromkeys(STEPS, 1))  # all run again


def test_what_changes_while_a_job_runs_counts_when_a_step_begins(project):
    project.write("data.txt", "before")
    project.write("job.yml", """
        type: pipeline
        inputs: {data: {type: uri_file, path: data.txt}}
        jobs:
          early: {command: "echo after > $DATA", environment: {image: ubuntu}, inputs: {}}
          late:
            command: cat ${{inputs.data}} > ${{outputs.out}}
            inputs: {data: "${{parent.inputs.data}}"}
            outputs: {out: {type: uri_file}}
            environment: {image: ubuntu}
    """)
    env = {"DATA": str(project.root/"data.txt")}
    project.run("job.yml", "--jobs", "1", **env)
    again = project.call("run", "job.yml", "--dry-run", **env)  # the key of `late` is that of the data that it read
    assert again.stdout.count("would be reused") == 2, again.stdout


def test_after_a_change_was_undone_the_job_has_the_outputs_of_what_is_there_now(project):
    "Every step has a result of an earlier job, but the last job of the file is that of the change"
    project.write("job.yml", """
        type: pipeline
        inputs: {data: {type: uri_file, path: data.txt}}
        jobs:
          copy:
            command: cat ${{inputs.data}} > ${{outputs.out}}
            inputs: {data: "${{parent.inputs.data}}"}
            outputs: {out: {type: uri_file}}
            environment: {image: ubuntu}
    """)
    def copied(text: str) -> str:
        project.write("data.txt", text)
        return Path(project.run("job.yml")["steps"][0]["outputs"]["out"]).read_text()
    for text in ("before", "changed", "before"): assert copied(text).strip() == text


def test_registering_and_checking_read_each_file_once(written):
    component = {name: 1 for name in ("inner.yml", "write.yml", "environment.yml", "conda.yml")}
    opened, _ = watched(written, "create", "inner.yml")
    assert {name: opened[name] for name in component} == component
    for name, text in FILES.items(): written.write(f"pipelines/{name}", text)
    assert watched(written, "check", code=1)[0] == ONCE  # it misses the notebooks of a project


def test_a_registered_component_is_found_with_one_workspace(written, monkeypatch):
    written.call("create", "write.yml")
    written.write("job.yml", JOB.replace("component: write.yml",
                                         "component: azureml:write@latest").replace("      inner:", "      # inner:"))
    from mlops_nb.jobs import run
    opened = []
    class Counted(run.Workspace):
        def __init__(self, *args, **kwargs):
            opened.append(args)
            super().__init__(*args, **kwargs)
    monkeypatch.setattr(run, "Workspace", Counted)
    assert run.run_file(written.root/"job.yml", {}, dry_run=True) == 0
    assert len(opened) == 1
