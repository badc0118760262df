"`%load_ext mlops_nb` in a real kernel: parameters are seen, set and refused in the words of the pipeline"
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support import ROOT

STAGE = "nbs/training/04_train.ipynb"
CELLS = {
    "load": "%load_ext mlops_nb",
    "unknown": "%params",
    "choose": f"%stage {STAGE}",
    "set": "%params learning_rate=0.1 estimator=logistic_regression refit_on_all=false",
    "values": "learning_rate, estimator, refit_on_all",
    "high": "%params max_iter=7 learning_rate=7",
    "kept": "'max_iter' in globals()",
    "name": "%params learning_rat=0.1",
    "path": "%params prepared=nowhere",
    "assigned": "learning_rate = 'fast'",
    "table": "%params",
    "component": "%component",
    "library": "%stage nbs/api/01_errors.ipynb",
}


@pytest.fixture(scope="module")
def said():
    "What each cell printed or displayed, by its name"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS.values()])
    NotebookClient(notebook, kernel_name="python3", allow_errors=True,
                   resources={"metadata": {"path": str(ROOT)}}).execute()
    show = lambda output: output.get("text") or output.get("data", {}).get("text/plain") or output.get("evalue", "")
    return {name: "".join(map(show, cell.outputs)) for name, cell in zip(CELLS, notebook.cells)}


def by_the_step(*arguments):
    "What the step runner says to the same values"
    done = subprocess.run([sys.executable, "-m", "mlops_nb.step", STAGE, *arguments], cwd=ROOT, capture_output=True,
                          text=True)
    assert done.returncode == 2
    return done.stderr.strip()


def test_a_kernel_that_does_not_know_its_notebook_is_told(said):
    assert "which notebook is open is not known here" in said["unknown"] and "fix: %stage" in said["unknown"]
    assert said["choose"].strip() == STAGE


def test_values_are_typed_by_their_annotations(said):
    assert said["values"] == "(0.1, 'logistic_regression', False)"


def test_a_value_out_of_range_is_refused_as_the_pipeline_does_and_nothing_is_set(said):
    assert by_the_step("--learning_rate", "7") in said["high"]
    assert said["kept"] == "False"


def test_an_unknown_name_and_a_missing_path_likewise(said):
    assert by_the_step("--learning_rat", "0.1") in said["name"]
    assert "prepared is 'nowhere', which does not exist" in said["path"]


def test_what_was_assigned_by_hand_is_checked_when_it_is_shown(said):
    assert "learning_rate is 'fast'" in said["table"] and "a number at least 0.001 and at most 1" in said["table"]
    assert "shrinkage of each step" in said["table"]


def test_the_component_is_shown_as_export_writes_it(said):
    text = (ROOT / "pipelines/training/components/train.yml").read_text()
    assert said["component"].startswith(text) and "says the same" in said["component"]


def test_a_notebook_that_is_no_stage_is_refused(said):
    assert "no heading `## Run`" in said["library"]


def test_jupyter_and_vs_code_tell_which_notebook_is_open(monkeypatch):
    from mlops_nb.notebooks.magics import open_notebook
    monkeypatch.setenv("JPY_SESSION_NAME", str(ROOT / STAGE))
    assert open_notebook({}, None) == ROOT / STAGE
    other = ROOT / "nbs/training/03_prepare.ipynb"
    assert open_notebook({"__vsc_ipynb_file__": str(other)}, None) == other
