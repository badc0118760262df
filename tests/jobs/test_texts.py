"Texts reach a step unchanged, or are refused before anything runs"
import json

import pytest

from mlops_nb.azure.staging import stage
from mlops_nb.errors import UserError
from mlops_nb.notebooks.components import step_command
from mlops_nb.notebooks.interface import read_parameters

from tests.support.notebooks import code, write_notebook
from tests.support.notebooks import text as prose

TEXT = "it's rock'n'roll'; touch x; '\n\"b\" $HOME `touch x` \\\n"
OWN = """
    type: pipeline
    jobs:
      say:
        type: command
        command: COMMAND
        environment: {image: python}
        inputs: {word: WORD}
"""


def write_stage(project, text):
    notebook = write_notebook(project.root/"say.ipynb", prose("## Run"),
                              code("word: str = 'x'   # a word", "parameters"),
                              code("from pathlib import Path\nPath('said').write_text(word)"))
    command = json.dumps(step_command("say.ipynb", read_parameters(notebook)))
    written = OWN.replace("COMMAND", command).replace("WORD", json.dumps(text))
    return project.write("job.yml", written + "        code: .\n")


@pytest.mark.parametrize("fork", ["1", "0"])
def test_a_generated_step_gets_any_text_as_it_is(project, fork):
    write_stage(project, TEXT)
    job = project.run("job.yml", MLOPS_NB_FORK=fork)
    said = project.workspace.step_folder(job["id"], "say")/"code"/"said"
    assert said.read_text() == TEXT and not list(project.root.rglob("x"))


@pytest.mark.parametrize("command, text", [
    ("echo '${{inputs.word}}'", "it's"), ("echo '${{inputs.word}}'", "rock'n'roll"),
    ('echo \"${{inputs.word}}\"', "$(touch x)"), ("echo ${{inputs.word}}", "a; touch x"),
    ("echo ${{inputs.word}}", "a\ntouch x"), ("bash -c \"echo '${{inputs.word}}'\"", "it's"),
    ("cat <<'END'\n${{inputs.word}}\nEND\n", "a\nEND\ntouch x")])
def test_a_text_that_a_command_would_change_is_refused_in_both_workspaces(project, command, text):
    written = OWN.replace("COMMAND", json.dumps(command)).replace("WORD", json.dumps(text))
    job = project.write("job.yml", written)
    refused = project.call("run", "job.yml")
    assert refused.returncode == 2 and "job.yml:8: say: the command has inputs.word" in refused.stderr
    assert not (project.root/".mlops"/"jobs").exists() and not list(project.root.rglob("x"))
    with pytest.raises(UserError, match="the command has inputs.word"): stage(job, {}, project.root/"staged")
    project.write("job.yml", OWN.replace("COMMAND", json.dumps(command)).replace("WORD", "fine"))
    assert project.call("run", "job.yml", "--dry-run").returncode == 0


def test_a_value_of_a_search_space_is_a_text_too(project):
    project.write("sweep.yml", """
        type: sweep
        trial: {command: "echo '${{search_space.word}}'", environment: {image: python}}
        search_space: {word: {type: choice, values: [a, "it's"]}}
        sampling_algorithm: grid
        objective: {goal: minimize, primary_metric: loss}
        limits: {max_total_trials: 2}
        """)
    refused = project.call("run", "sweep.yml")
    assert refused.returncode == 2 and "search_space.word within '" in refused.stderr
