"`mlops-nb lab`: the kernel of a project, and the command that starts JupyterLab"
import json
import sys
from pathlib import Path

import pytest

from mlops_nb.notebooks.lab import check_jupyter, first_stage, install_kernel, kernel_file, kernel_name, lab_options
from mlops_nb.project import Project

from tests.support.projects import command, harvest


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    "A project of one's own, in a path with a space"
    return harvest(tmp_path_factory.mktemp("my lab"), rows=600)


def test_the_kernel_names_the_python_of_the_project_for_every_jupyter(project, monkeypatch, tmp_path):
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    here = Project(project)
    assert not check_jupyter(here).ok and "--kernel-only" in check_jupyter(here).fix
    folder = install_kernel(here)
    specification = json.loads((folder / "kernel.json").read_text())
    assert folder == kernel_file(here).parent and kernel_name(here) == "harvest"
    assert specification["argv"][0] == sys.executable and specification["display_name"] == "harvest (mlops-nb)"
    assert check_jupyter(here).ok
    (folder / "kernel.json").write_text(json.dumps(specification | {"argv": ["/elsewhere/python"]}))
    assert not check_jupyter(here).ok and "/elsewhere/python" in check_jupyter(here).found


def test_a_notebook_that_is_not_there_is_one_message(project):
    assert "there is no notebook" in command("lab", "nbs/none.ipynb", cwd=project, code=2).stderr


def test_jupyterlab_opens_the_first_stage_below_the_root_that_the_pages_link_to(project):
    here = Project(project)
    words = lab_options(here, first_stage(here), 8888, browser=False)
    assert words[0].endswith("nbs/training/01_ingest.ipynb")
    assert f"--ServerApp.root_dir={project}" in words and "--port=8888" in words and "--no-browser" in words
