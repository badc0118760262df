"The example keeps to the contract, and the machinery knows the example by nothing else"
import ast
from pathlib import Path

import pytest
import yaml

from mlops_nb import contract
from mlops_nb.contract import TERMS, WINDOW

from tests.support import ROOT

PIPELINES = ROOT / "pipelines"
TRAININGS = [contract.TRAINING_JOB, contract.RETRAINING_JOB]
EXAMPLE = ("training", "deployment", "monitoring", "scaffold")
WORDS = {
    contract.PREPARED,
    *WINDOW,
    contract.EVALUATE,
    contract.VERDICT_FILE,
    contract.LABELLED_FILE,
    contract.ROLES_FILE,
    contract.TRAINING_JOB,
    contract.RETRAINING_JOB,
    contract.ENDPOINT_FILE,
    contract.QA_JOB,
    contract.TOWER_NOTEBOOK,
}
MODULES = [
    path
    for path in sorted((ROOT / "mlops_nb").rglob("*.py"))
    if path.relative_to(ROOT / "mlops_nb").parts[0] not in EXAMPLE and path.name not in ("contract.py", "_modidx.py")
]


def read(file: str) -> dict: return yaml.safe_load((PIPELINES / file).read_text())


def outputs_of(file: str) -> set[str]:
    "The outputs of a pipeline and of its steps"
    job = read(file)
    components = [(PIPELINES / file).parent / step["component"] for step in job["jobs"].values()]
    return {name for document in [job, *(yaml.safe_load(path.read_text()) for path in components)]
            for name in document.get("outputs") or {}}


@pytest.mark.parametrize("term", [term for term in TERMS if term.kind in (contract.PIPELINES, contract.NOTEBOOKS)],
                         ids=lambda term: term.name)
def test_each_file_is_there(term):
    folder = PIPELINES if term.kind == contract.PIPELINES else ROOT / "nbs"
    assert (folder / term.name).is_file()


@pytest.mark.parametrize("file", TRAININGS)
def test_a_training_takes_the_days_and_leaves_what_is_looked_for(file):
    assert {*WINDOW} <= {*read(file)["inputs"]}
    assert {contract.PREPARED, *contract.MONITORED} <= outputs_of(file)
    assert contract.EVALUATE in read(file)["jobs"]


def test_the_qa_job_has_its_step_with_its_output():
    assert contract.QA_STEP in read(contract.QA_JOB)["jobs"] and contract.QA_OUTPUT in outputs_of(contract.QA_JOB)
    assert {"endpoint", "deployment", "model", "labelled"} <= {*read(contract.QA_JOB)["inputs"]}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT / "mlops_nb").as_posix())
def test_the_machinery_spells_no_term_itself(path: Path):
    spelled = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
    assert spelled & WORDS == set()
