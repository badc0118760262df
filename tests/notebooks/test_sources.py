"What nbdev would lose or break is refused by `export` and `check`, with notebook, cell and line"
import shutil
from pathlib import Path

import pytest

from mlops_nb.errors import UserError
from mlops_nb.notebooks.export import check_sources, render_modules
from mlops_nb.notebooks.lint import check_project
from mlops_nb.settings import load_settings

from tests.support.notebooks import code, stage_cells, write_notebook

HERE = Path(__file__).resolve().parents[2]
OK = ("#| default_exp training.lib", "#| export\ndef one(): return 1")


@pytest.fixture
def repo(tmp_path):
    "A project with a package and no notebooks"
    (tmp_path/"settings.ini").write_text("[project]\npackage = pak\nexperiment = e\nmodel = m\n")
    (tmp_path/"pyproject.toml").write_text(
        '[project]\nname = "pak"\nversion = "0.1"\n[tool.nbdev]\nnbs_path = "nbs"\nlib_path = "pak"\n'
    )
    (tmp_path/"pak").mkdir()
    (tmp_path/"pak"/"__init__.py").write_text('__version__ = "0.1"\n')
    return tmp_path


def write(repo, name, *cells): return write_notebook(repo/"nbs"/"training"/f"{name}.ipynb", *map(code, cells))


@pytest.mark.parametrize("cells, says", [
    (("#| default_exp",), "01_lib.ipynb:cell 1: default_exp names no module"),
    (("#| default_exp __init__",), "cell 1: default_exp __init__ names no module that can be imported"),
    (("#| default_exp training.__init__",), "names no module that can be imported"),
    (("#| default_exp training.2nd",), "names no module that can be imported"),
    (("#| default_exp training.my-lib",), "names no module that can be imported"),
    (("#| default_exp training.class",), "names no module that can be imported"),
    (("#| default_exp training/lib.py",), "names no module that can be imported"),
    (("#| default_exp training.lib.py",), "names no module that can be imported"),
    ((*OK, "#| export\nimport os\n%matplotlib inline"), "cell 3:3: the cell is exported, and `%matplotlib inline`"),
    ((*OK, "#| export\n!pip install x"), "cell 3:2: the cell is exported, and `!pip install x` means"),
    ((*OK, "#| export\nfiles = !ls"), "cell 3:2: the cell is exported, and `files = !ls`"),
    (("#| export\ndef f(): ...",), "01_lib.ipynb:cell 1: the cell is exported, and the notebook says not where to"),
    ((*OK, "#| export training.other\ndef f(): ..."), "cell 3: the cell is exported to training.other"),
    ((*OK, "#| export\nfrom .train import *"), "cell 3:2: `from .train import *` is relative"),
    ((*OK, "#| export\nfrom ..x import y"), "write from pak.x import"),
    ((*OK, "#| export\n\ndef f(: ..."), "01_lib.ipynb:cell 3:3: the cell is not Python"),
    ((*OK, "#|exporti\nx ="), "01_lib.ipynb:cell 3:2: the cell is not Python"),
])
def test_a_notebook_is_refused_with_its_cell(repo, cells, says):
    write(repo, "01_lib", *cells)
    with pytest.raises(UserError) as refused: check_sources(repo, load_settings(repo))
    assert says in str(refused.value)
    assert any(says in str(problem) for problem in check_project(repo))


def test_two_notebooks_are_not_one_module(repo):
    write(repo, "01_lib", *OK)
    for name, twin in (("02_lib", OK), ("03_lib", ("#| default_exp training.LIB",))):
        path = write(repo, name, *twin)
        with pytest.raises(UserError, match="01_lib.ipynb is that module too"): check_sources(repo, load_settings(repo))
        path.unlink()
    link = repo/"nbs"/"training"/"04_lib.ipynb"
    link.symlink_to(repo/"nbs"/"training"/"01_lib.ipynb")
    with pytest.raises(UserError, match="is that module too"): check_sources(repo, load_settings(repo))


def test_a_folder_does_not_take_the_place_of_a_module(repo):
    write(repo, "01_lib", *OK)
    write(repo, "02_all", "#| default_exp training", "#| export\nx = 1")
    with pytest.raises(UserError, match="Python imports the folder"): check_sources(repo, load_settings(repo))
    shutil.rmtree(repo/"nbs")
    write(repo, "01_lib", *OK)
    (repo/"pak"/"training"/"lib").mkdir(parents=True)
    (repo/"pak"/"training"/"lib"/"a.py").touch()
    with pytest.raises(UserError, match="Python imports the folder pak"): check_sources(repo, load_settings(repo))


def test_a_file_by_hand_is_not_written_over(repo):
    write(repo, "01_lib", *OK)
    (repo/"pak"/"training").mkdir()
    (repo/"pak"/"training"/"lib.py").write_text("mine = 1\n")
    with pytest.raises(UserError, match="was not generated"): check_sources(repo, load_settings(repo))


def test_what_each_cell_says_is_python_and_the_module_is_not(repo):
    write(repo, "01_lib", OK[0], "#| export\nimport os", "#| export\nfrom __future__ import annotations")
    with pytest.raises(UserError, match="01_lib.ipynb:cell 3: the module cannot be imported: from __future__"):
        render_modules(repo, load_settings(repo))


def test_a_good_notebook_is_exported(repo):
    write(repo, "01_lib", OK[0], "#| export\nfrom __future__ import annotations\nimport os", OK[1], "%time\n!ls")
    check_sources(repo, load_settings(repo))
    assert "def one" in render_modules(repo, load_settings(repo))[Path("pak/training/lib.py")]


@pytest.mark.parametrize("source", ["x = (1", "def f(:", "for x in y\n    pass", "x = '"])
def test_the_job_of_a_stage_is_python(repo, source):
    path, declared = repo/"nbs"/"training"/"01_fit.ipynb", "x: int = 1   # a number"
    write_notebook(path, *stage_cells(declared, "y = 1", source))
    with pytest.raises(UserError, match="01_fit.ipynb:cell 5:1: the cell is not Python"):
        check_sources(repo, load_settings(repo))
    assert any("01_fit.ipynb:cell 5:1" in str(problem) for problem in check_project(repo))
    for fine in ("await f()", "%%bash\nls -l", "!ls", "x = %time 1", "f?", "%%time\nx = 1", "%%html\n<b>"):
        path.unlink()
        write_notebook(path, *stage_cells(declared, fine))
        check_sources(repo, load_settings(repo))
