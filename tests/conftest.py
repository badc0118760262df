"Fixtures that several packages of tests share"
import os

import pytest
from hypothesis import settings

from tests.support.browser import browser  # noqa: F401  (a fixture for every test)
from tests.support.loopback.fixture import azure, azure_server  # noqa: F401  (fixtures for every test)
from tests.support.notebooks import stage_cells, write_notebook

# A property is about values and not about time: a busy machine is no counterexample.
settings.register_profile("mlops-nb", deadline=None)
settings.load_profile("mlops-nb")
os.environ["MLOPS_NB_LAUNCHER_IDLE"] = "0"    # No test leaves a process behind


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
    from tests.support.serving import Endpoints, make_workspace
    root = make_workspace(tmp_path_factory.mktemp("serving") / "project")
    endpoints = Endpoints(root)
    endpoints.deploy(root / "endpoint.yml", root / "deployment.yml", replay=True)
    yield endpoints
    for one in endpoints.list(): endpoints.stop(one.name)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    "MLflow's database, made once: sixty migrations take seconds"
    from mlops_nb.workspace.mlflow_store import create_store, tracking_uri
    root = tmp_path_factory.mktemp("store")
    create_store(tracking_uri(root))
    return root/".mlops"/"mlflow.db"
