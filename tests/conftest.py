"What several test modules share: stage notebooks made of text"
import json
from pathlib import Path

import pytest
from loopback.fixture import azure, azure_server  # noqa: F401  (fixtures for every test)

ROOT = Path(__file__).resolve().parents[1]


def code(source: str, *tags: str) -> dict:
    "A code cell"
    return dict(cell_type="code", metadata={"tags": [*tags]} if tags else {}, source=source, outputs=[], execution_count=None)


def text(source: str) -> dict:
    "A markdown cell"
    return dict(cell_type="markdown", metadata={}, source=source)


def write_notebook(path: Path, *cells: dict) -> Path:
    "A notebook file of these cells"
    path.parent.mkdir(parents=True, exist_ok=True)
    numbered = [dict(c, id=f"c{i}") for i, c in enumerate(cells)]
    path.write_text(json.dumps(dict(nbformat=4, nbformat_minor=5, metadata={}, cells=numbered), indent=1), encoding="utf-8")
    return path


def stage_cells(parameters: str, *job: str, above: tuple[str, ...] = ()) -> list[dict]:
    "A stage: library cells, the heading, the parameters, the cells of the job"
    library = [code(s) for s in above]
    return [text("# Stage\n\n> A stage for a test"), *library, text("## Run"), code(parameters, "parameters"), *map(code, job)]


@pytest.fixture
def stage(tmp_path):
    "A function that writes a stage notebook under the test's folder and returns its path"
    def write(parameters, *job, above=(), name="stage.ipynb"):
        return write_notebook(tmp_path / name, *stage_cells(parameters, *job, above=above))
    return write


@pytest.fixture(scope="session")
def serving(tmp_path_factory):
    "A workspace with registered models and the endpoint `echo`"
    pytest.importorskip("fcntl", reason="endpoints need a POSIX system")
    from serving import Endpoints, make_workspace
    root = make_workspace(tmp_path_factory.mktemp("serving") / "project")
    endpoints = Endpoints(root)
    endpoints.deploy(root / "endpoint.yml", root / "deployment.yml", replay=True)
    yield endpoints
    for one in endpoints.list(): endpoints.stop(one.name)
