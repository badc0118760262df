"What is generated from stage notebooks, and what `check` finds, on small repositories"
import json
import shutil

import pytest
import yaml

from mlops_nb.errors import StepFailed, UserError
from mlops_nb.jobs.sample import run_sample
from mlops_nb.notebooks.components import closure, step_command
from mlops_nb.notebooks.export import export
from mlops_nb.notebooks.lint import check_project, free_names
from mlops_nb.parameters import Parameter

from tests.support import ROOT
from tests.support.notebooks import code, stage_cells, text, write_notebook

PARAMETERS = (
    "from_here: uri_folder = '../data'   # what: a folder\nrate: Annotated[float, Range(0, 1)] = 0.5   # a share\n"
    "carrier: str = '007'   # an id\nold: Optional[mlflow_model] = None   # a champion\nkeep: bool = True   # a "
    "switch\n"
    "loss: Literal['a', 'b'] = 'b'   # a choice\nmodel: Output[mlflow_model] = 'm'   # the model"
)

IMPORTS = ("from mlops_nb.parameters import Annotated, Literal, Optional, Output, Range, mlflow_model, uri_folder\n"
           "from mlops_nb.training.fit import four")


@pytest.fixture
def repo(tmp_path):
    "A repository with one library notebook and one stage"
    root = tmp_path / "repo"
    (root / "mlops_nb").mkdir(parents=True)
    (root / "mlops_nb/__init__.py").write_text('__version__ = "1.2.3"\n')
    (root / "pipelines/environment").mkdir(parents=True)
    for name in ("environment.yml", "Dockerfile", "requirements.txt"):
        shutil.copy(ROOT / "pipelines/environment" / name, root / "pipelines/environment")
    (root / "settings.ini").write_text("[project]\nexperiment = e\nmodel = m\n")
    (root / "pyproject.toml").write_text(
        '[project]\nname = "x"\n[tool.nbdev]\nnbs_path = "nbs"\nlib_path = "mlops_nb"\n'
        'allowed_cell_metadata_keys = ["tags"]\nupdate_pyproject = false\n'
    )
    write_notebook(root / "nbs/core/00_lib.ipynb", text("# Lib"), code("#| default_exp core.lib"),
                   code("#| export\ndef double(x): return 2 * x"))
    write_stage(root)
    write_notebook(root / "nbs/index.ipynb", text("# Title\n\n> Purpose"), code("#| hide\n1"), code("1 + 1"))
    export(root)
    return root


def write_stage(root, *job, parameters=PARAMETERS, name="01_fit"):
    head, run, cell = stage_cells(parameters)
    return write_notebook(root / f"nbs/training/{name}.ipynb", head, code(f"#| default_exp training.{name[3:]}"),
                          code("#| export\nfrom mlops_nb.core.lib import double"),
                          code("#| export\ndef four(): return double(2)"),
                          run, code(IMPORTS), cell, *map(code, job or ("four()",)))


def snapshot(root): return {p.relative_to(root): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_what_is_generated_is_complete_and_stays(repo):
    assert check_project(repo) == []
    before = snapshot(repo)
    assert export(repo) == {} and snapshot(repo) == before
    assert (repo / "README.md").read_text().endswith("> Purpose\n\n```python\n1 + 1\n```\n")
    assert "def double(x)" in (repo / "mlops_nb/core/lib.py").read_text()
    assert "def four()" in (repo / "mlops_nb/training/fit.py").read_text()


def test_the_component_is_the_parameters_cell(repo):
    found = yaml.safe_load((repo / "pipelines/training/components/fit.yml").read_text())
    assert found["inputs"] == {
        "from_here": {"type": "uri_folder", "description": "what: a folder"},
        "rate": {"type": "number", "description": "a share", "default": 0.5, "min": 0, "max": 1},
        "carrier": {"type": "string", "description": "an id", "default": "007"},
        "old": {"type": "mlflow_model", "description": "a champion", "optional": True},
        "keep": {"type": "boolean", "description": "a switch", "default": True},
        "loss": {"type": "string", "description": "a choice", "default": "b", "enum": ["a", "b"]}}
    assert found["outputs"] == {"model": {"type": "mlflow_model", "description": "the model"}}
    assert (found["version"], found["name"], found["code"],
            found["is_deterministic"]) == ("1.2.3", "fit", "../../..", True)
    line, *texts, end = found["command"].splitlines()
    assert "$[[--old '${{inputs.old}}']]" in line and "--model '${{outputs.model}}'" in line
    assert line.endswith(f" --text-inputs {end} <<'{end}'")
    assert texts == [f"<{name} {end}>${{{{inputs.{name}}}}}</{end}>" for name in ("carrier", "loss")]


def test_azure_loads_the_component(repo):
    ml = pytest.importorskip("azure.ai.ml")
    loaded = ml.load_component(repo / "pipelines/training/components/fit.yml")
    assert loaded.inputs["rate"].max in (1, "1", 1.0) and loaded.inputs["old"].optional
    written = yaml.safe_load((repo / "pipelines/training/components/fit.yml").read_text())["command"]
    assert loaded.environment.build.path and loaded._to_rest_object().properties.component_spec["command"] == written


def test_every_component_of_this_repository_loads_in_azure():
    ml = pytest.importorskip("azure.ai.ml")
    paths = sorted(ROOT.glob("pipelines/*/components/*.yml"))
    assert paths and {ml.load_component(p).name for p in paths} == {p.stem for p in paths}


def test_a_step_that_is_not_deterministic_says_so(repo):
    nb = repo / "nbs/training/01_fit.ipynb"
    nb.write_text(nb.read_text().replace('"parameters"', '"parameters", "not-deterministic"'))
    assert export(repo)
    assert yaml.safe_load((repo / "pipelines/training/components/fit.yml").read_text())["is_deterministic"] is False


def test_names_that_are_python_words_stay_arguments():
    assert step_command("a.ipynb",
                        [Parameter("in_", "integer")]) == "python -m mlops_nb.step a.ipynb --in_ '${{inputs.in_}}'"


def problems(root): return [str(p) for p in check_project(root)]


def edit(path, old, new):
    before = path.read_text()
    assert old in before
    path.write_text(before.replace(old, new))


@pytest.mark.parametrize(
    "path, old, new",
    [
        ("mlops_nb/core/lib.py", "2 * x", "3 * x"),
        ("pipelines/training/components/fit.yml", "0.5", "0.6"),
        ("README.md", "Purpose", "purpose"),
        ("nbs/core/00_lib.ipynb", "2 * x", "3 * x"),
        ("nbs/training/01_fit.ipynb", "a share", "a part"),
        ("nbs/index.ipynb", "Purpose", "purpose"),
        ("mlops_nb/_modidx.py", "four", "five"),
        ("mlops_nb/__init__.py", "1.2.3", "1.2.4"),
    ],
)
def test_anything_stale_is_found_and_export_mends_it(repo, path, old, new):
    edit(repo / path, old, new)
    assert any("generated file is changed" in p for p in problems(repo))
    export(repo)
    assert problems(repo) == []


def test_what_a_renamed_notebook_leaves_is_found_and_removed(repo):
    (repo / "nbs/training/01_fit.ipynb").rename(repo / "nbs/training/02_refit.ipynb")
    edit(repo / "nbs/training/02_refit.ipynb", "training.fit", "training.refit")
    found = "\n".join(problems(repo))
    assert (
        "pipelines/training/components/fit.yml: generated file is left over" in found
        and "mlops_nb/training/fit.py: generated file is left over" in found
    )
    export(repo)
    assert problems(repo) == [] and not (repo / "mlops_nb/training/fit.py").exists()


def test_what_somebody_wrote_by_hand_is_kept(repo):
    (repo / "mlops_nb/hand.py").write_text("x = 1\n")
    (repo / "mlops_nb/core/__init__.py").write_text("'written by hand'\n")
    (repo / "pipelines/training/components/hand.yml").write_text("type: command\n")
    before = snapshot(repo)
    assert problems(repo) == [] and export(repo) == {} and snapshot(repo) == before


def test_a_lost_tag_is_found(repo):
    edit(repo / "nbs/training/01_fit.ipynb", '"parameters"', '"other"')
    assert any("nbs/training/01_fit.ipynb: no cell is tagged `parameters`" in p for p in problems(repo))


def test_a_mistake_leaves_nothing_half_written(repo):
    before = snapshot(repo)
    write_notebook(repo / "nbs/training/09_last.ipynb", *stage_cells("x = 3   # no type"))
    edit(repo / "nbs/core/00_lib.ipynb", "2 * x", "3 * x")
    with pytest.raises(UserError, match="09_last.ipynb:cell 3:1: `x = 3` has no type"): export(repo)
    assert {k: v for k, v in snapshot(repo).items() if k.parts[0] != "nbs"} == {
        k: v for k, v in before.items() if k.parts[0] != "nbs"
    }


def test_an_exported_cell_that_is_not_python_is_named(repo):
    edit(repo / "nbs/core/00_lib.ipynb", "return 2 * x", "return 2 * * x")
    before = snapshot(repo)
    with pytest.raises(UserError, match=r"00_lib.ipynb:cell 3:2: the cell is not Python: invalid syntax"): export(repo)
    assert snapshot(repo) == before


def test_twins_are_refused(repo):
    write_stage(repo, name="02_fit")
    assert any("fit is also the component of" in p for p in problems(repo))


@pytest.mark.parametrize(
    "job, name",
    [
        ("helper()", "helper"),
        ("def f(): return helper()", "helper"),
        ("[helper for a in range(3)]", "helper"),
        ("%matplotlib inline\nx = helper", "helper"),
        ("class A(Base): pass", "Base"),
    ],
)
def test_a_job_that_leans_on_the_library_cells_is_found(repo, job, name):
    write_stage(repo, job)
    assert any(f"the job uses {name}, which nothing below" in p and ":cell 8:" in p for p in problems(repo))


@pytest.mark.parametrize(
    "source",
    [
        "import os.path\nos",
        "from a import b as c\nc",
        "x: int = 1\nx",
        "for i in range(3): i",
        "with open('x') as f: f",
        "def g(a, *b, c=1, **d): return a, b, c, d",
        "try: pass\nexcept E as e: e\nclass E(Exception): y = 1",
        "[a for a in 'x' if a]",
        "lambda z: z",
        "(w := 3) and w",
        "global q\nq = 1\nq",
        "def h():\n    global r\n    r = 1\nh(); r",
        "display(_); get_ipython()",
        "import a\na.b.c",
        "match 3:\n    case v: v",
        "_, __, _12, _i",
    ],
)
def test_names_that_are_defined_are_not_free(source): assert free_names(source) == set()


def test_star_imports_in_the_job_are_refused(repo):
    write_stage(repo, "from os import *")
    assert any("the job imports * from os" in p for p in problems(repo))


def test_a_dirty_notebook_is_found(repo):
    nb = repo / "nbs/core/00_lib.ipynb"
    raw = json.loads(nb.read_text())
    raw["cells"][1]["metadata"]["execution"] = {"total": 1.5}
    nb.write_text(json.dumps(raw))
    assert problems(repo) == [
        "nbs/core/00_lib.ipynb:cell 2: the cell has metadata: execution\n  accepted: tags\n  fix: nbdev-clean"
    ]


def test_limits_of_the_gate_agree_with_the_settings(repo):
    (repo / "settings.ini").write_text("[project]\nexperiment = e\nmodel = m\n[gates]\nmax_latency_ms = 20\nseed = 4\n")
    write_stage(repo, parameters="max_latency_ms: float = 20   # a limit\nseed: int = 4   # of the bootstrap")
    pipeline = repo / "pipelines/training/pipeline.yml"
    pipeline.write_text(
        "type: pipeline\ninputs:\n  max_latency_ms: 20\n  seed:\n    type: integer\n    default: 4\njobs:\n  a:\n    "
        "inputs:\n"
        "      max_latency_ms: ${{parent.inputs.max_latency_ms}}\n  b:\n    inputs:\n      seed: 9\n"
    )
    export(repo)
    assert problems(repo) == []
    edit(pipeline, "default: 4", "default: 5")
    assert ["pipelines/training/pipeline.yml:4: seed is 5" in p for p in problems(repo)] == [True]
    edit(repo / "settings.ini", "max_latency_ms = 20", "max_latency_ms = 30")
    found = "\n".join(problems(repo))
    assert "pipeline.yml:3: max_latency_ms is 20" in found and "01_fit" not in found    # its default is for Jupyter


def test_a_limit_that_a_pipeline_leaves_out_is_named(repo):
    "The step would take its notebook's default instead"
    (repo / "settings.ini").write_text("[project]\nexperiment = e\nmodel = m\n[gates]\nmax_latency_ms = 20\n")
    write_stage(repo, parameters="max_latency_ms: float = 50   # a limit")
    pipeline = repo / "pipelines/training/pipeline.yml"
    pipeline.write_text("type: pipeline\njobs:\n  a:\n    component: components/fit.yml\n")
    export(repo)
    assert ["pipeline.yml:3: a is not given max_latency_ms" in p for p in problems(repo)] == [True]
    pipeline.write_text(pipeline.read_text() + "    inputs:\n      max_latency_ms: 20\n")
    assert problems(repo) == []


def test_broken_settings_are_the_one_problem(repo):
    (repo / "settings.ini").write_text("[project]\nmodel = m\n")
    assert len(problems(repo)) == 1


def test_the_closure_is_what_the_job_imports(repo):
    (repo / "mlops_nb/unused.py").write_text("import nothing\n")
    (repo / "mlops_nb/core/lib.py").write_text("def double(x):\n    from .deep import y\n    return y\n")
    (repo / "mlops_nb/core/deep.py").write_text("from . import sibling\nfrom .. import top\ny = 1\n")
    for name in ("core/sibling", "top", "training/other"): (repo / f"mlops_nb/{name}.py").write_text("")
    found = {p.relative_to(repo).as_posix() for p in closure(repo, repo / "nbs/training/01_fit.ipynb")}
    assert found == {"nbs/training/01_fit.ipynb", "mlops_nb/__init__.py", "mlops_nb/core/__init__.py",
                     "mlops_nb/training/__init__.py",
                     "mlops_nb/training/fit.py", "mlops_nb/core/lib.py", "mlops_nb/core/deep.py",
                     "mlops_nb/core/sibling.py", "mlops_nb/top.py"}


def test_a_step_runs_in_its_closure_alone(tmp_path):
    import subprocess
    import sys
    nb = write_notebook(tmp_path / "src/stage.ipynb",
                        *stage_cells("x: int = 1   # a number", "import mlops_nb\nprint(mlops_nb.__file__)"))
    for path in closure(ROOT, nb):
        if path == nb: continue
        target = tmp_path / "src" / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    assert not (tmp_path / "src/mlops_nb/notebooks/lint.py").exists()
    done = subprocess.run([sys.executable, "-m", "mlops_nb.step", "stage.ipynb"], cwd=tmp_path / "src", text=True,
                          capture_output=True)
    assert done.returncode == 0 and done.stdout.startswith(str(tmp_path)), done.stderr


def test_the_sample_runs_the_stages_in_order_and_stops_at_the_first_failure(tmp_path, capsys):
    (tmp_path / "settings.ini").write_text("[project]\nexperiment = e\nmodel = m\n")
    types = code("from mlops_nb.parameters import Output, uri_folder\nfrom pathlib import Path")
    for number, name, job in (
        (1, "one", "Path(out).mkdir()"),
        (2, "two", "assert Path(out).exists()\n1 / 0"),
        (3, "three", "Path(out, 'x').touch()"),
    ):
        head, run, parameters, cell = stage_cells("out: Output[uri_folder] = '../../.mlops/sample/out'   # a folder",
                                                  job)
        write_notebook(tmp_path / f"nbs/training/0{number}_{name}.ipynb", head, run, types, parameters, cell)
    with pytest.raises(StepFailed, match="two: exit code 1(.|\n)*ZeroDivisionError"): run_sample(tmp_path)
    assert capsys.readouterr().out.startswith("one: ")
    assert [p.name for p in sorted((tmp_path / ".mlops/sample/outputs").glob("*.ipynb"))] == [
        "01_one.ipynb",
        "02_two.ipynb",
    ]
    run_sample(tmp_path, ["three"])
    with pytest.raises(UserError, match="there is no stage 'four'"): run_sample(tmp_path, ["four"])
