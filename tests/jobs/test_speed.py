"""The fast path changes nothing but the time: what is imported, when steps are forked, and what does not leak from
one to the next"""
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.jobs import Project, steps
from tests.support.notebooks import code, text, write_notebook

HEAVY = {"azure", "mlflow", "pandas", "sklearn", "numpy", "IPython", "matplotlib", "papermill", "nbconvert",
         "importlib.metadata"}
SPY = """import sys
from mlops_nb.cli.main import main
try: main(prog_name='mlops-nb')
finally: print('LOADED', *sys.modules, file=sys.stderr)
"""


def loaded(root: Path, *words: str, **env) -> set[str]:
    "The modules that a command has imported when it ends"
    done = subprocess.run([sys.executable, "-c", SPY, *words], cwd=root, env={**os.environ, **env}, text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr
    found = re.search(r"LOADED (.*)", done.stderr)
    assert found
    return {*found[1].split()}


def pipeline(project, cells: dict[str, list[str]], variables: str = "") -> Path:
    "A chain of notebooks of these cells; each writes `out`"
    lines, before = ["type: pipeline", "jobs:"], None
    for name, sources in cells.items():
        types = code("from mlops_nb.parameters import Output, uri_file")
        write_notebook(project.root/f"{name}.ipynb", text(f"# {name}"), text("## Run"), types,
                       code("out: Output[uri_file] = 'x.json'   # what it saw", "parameters"), *map(code, sources))
        after = f", inputs: {{before: '${{{{parent.jobs.{before}.outputs.out}}}}'}}" if before else ""
        lines.append(
            f"  {name}: {{command: \"python -m mlops_nb.step {name}.ipynb --out '${{{{outputs.out}}}}'\", code: ., "
            f"outputs: {{out: {{type: uri_file}}}}, "
            f"environment: {{image: python}}{after}{variables}}}"
        )
        before = name
    return project.write("notebooks.yml", "\n".join(lines) + "\n")


def saw(job: dict, name: str): return json.loads(Path(steps(job)[name]["outputs"]["out"]).read_text())


SEE = (
    "import json, os, random, sys\nimport numpy, matplotlib\nfrom threadpoolctl import threadpool_info\nimport sklearn"
)
WRITE = "with open(out, 'w') as file: json.dump(seen, file)"
LOOK = (
    "seen = dict(cwd=os.path.basename(os.path.dirname(os.getcwd())), random=random.random(), "
    "numpy=float(numpy.random.rand()), "
    "backend=matplotlib.get_backend().removeprefix('module://matplotlib_inline.backend_'), "
    "path=[p for p in sys.path if 'leaked' in p], variable=os.environ.get('LEAKED'), "
    "omp=os.environ['OMP_NUM_THREADS'], spin=os.environ['GOMP_SPINCOUNT'], pages=os.environ['NUMPY_MADVISE_HUGEPAGE'], "
    "figsize=matplotlib.rcParams['figure.dpi'], "
    "printing=numpy.get_printoptions()['precision'], attribute=hasattr(json, 'leaked'), "
    "threads=sorted({i['num_threads'] for i in threadpool_info()}))"
)
SPOIL = (
    "from threadpoolctl import threadpool_limits\nthreadpool_limits(3)\nos.environ.update(LEAKED='1', "
    "OMP_NUM_THREADS='7')\nos.chdir('/')\nrandom.seed(1)\nnumpy.random.seed(1)\n"
    "sys.path.append('/leaked')\njson.leaked = 1\nmatplotlib.use('svg')\nmatplotlib.rcParams['figure.dpi'] = "
    "33\nnumpy.set_printoptions(precision=1)"
)


def test_nothing_leaks_from_one_step_into_the_next(project):
    file = pipeline(project, {"first": [SEE, LOOK, WRITE, SPOIL], "second": [SEE, LOOK, WRITE, SPOIL]})
    job = project.run(str(file))
    first, second = saw(job, "first"), saw(job, "second")
    assert (first.pop("cwd"), second.pop("cwd")) == ("first", "second")
    assert first.pop("random") != second.pop("random") and first.pop("numpy") != second.pop("numpy")
    assert first == second and second["variable"] is None and second["path"] == [] and not second["attribute"]


def test_a_step_that_is_forked_sees_what_an_ordinary_process_sees(project, tmp_path, empty_store):
    cells, seen = {"first": [SEE, LOOK, WRITE]}, []
    for fork in ("1", "0"):
        one = Project(tmp_path/f"fork{fork}", empty_store)
        job = one.run(str(pipeline(one, cells)), MLOPS_NB_FORK=fork)
        found = saw(job, "first")
        seen.append({name: value for name, value in found.items() if name not in ("random", "numpy")})
    assert seen[0] == seen[1]


def test_a_step_may_ask_for_threads_of_its_own(project):
    file = pipeline(project, {"first": [SEE, LOOK, WRITE]}, ", environment_variables: {OMP_NUM_THREADS: '1'}")
    found = saw(project.run(str(file)), "first")
    assert (found["omp"], found["threads"]) == ("1", [1])


def test_threads_of_a_step_sleep_while_they_wait_for_each_other(project):
    "On a table of ten classes and 1,347 rows, waiting in a loop cost ten times the work itself"
    assert saw(project.run(str(pipeline(project, {"first": [SEE, LOOK, WRITE]}))), "first")["spin"] == "0"


def test_what_skops_looks_for_in_all_modules_is_imported_before_those_of_mlflow(project):
    "Each of mlflow's modules that it asks tries an import of its own; the first notebook needs mlflow alone"
    see = "import json, sys\nseen = [name for name in sys.modules if name in ('scipy.special', 'mlflow', 'skops')]"
    file = pipeline(project, {"first": ["import mlflow", see, WRITE], "second": ["import skops.io", see, WRITE]})
    job = project.run(str(file))
    assert [saw(job, name)[:2] for name in ("first", "second")] == [["scipy.special", "mlflow"]] * 2
    assert saw(job, "second")[2:] == ["skops"]


SHARES = [("train", ["train"], 8), ("train", ["train", "report"], 8), ("train", ["train", "other"], 4),
          ("report", ["train", "report"], 4), ("last", ["last"], 8), ("report", ["report", "last"], 4)]


@pytest.mark.parametrize(("starts", "active", "threads"), SHARES)
def test_a_step_that_nothing_waits_for_takes_no_share_from_one_on_which_others_wait(starts, active, threads):
    from mlops_nb.jobs.runner import share_threads
    needs = {"train": set(), "other": set(), "report": set(), "last": {"train", "other"}}
    awaited = set().union(*needs.values())
    assert share_threads(awaited, starts, 8, active, []) == threads


THREAD = """import sys, threading, time
if any('launcher' in word for word in sys.orig_argv):
    threading.Thread(target=time.sleep, args=(300,), daemon=True).start()
"""


def test_where_a_thread_runs_steps_are_ordinary_processes_and_it_is_said_once(project):
    project.write("early/sitecustomize.py", THREAD)
    cells = ["import json, os, sys", "seen = sys.orig_argv[1:3]", WRITE]
    file = pipeline(project, {"first": cells, "second": cells})
    done = project.call("run", str(file), "--json", PYTHONPATH=str(project.root/"early"))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("each notebook starts a Python of its own") == 1 and "has started 1 thread" in done.stderr
    assert saw(json.loads(done.stdout), "second") == ["-m", "mlops_nb.step"]


def test_forking_needs_no_word_and_shares_the_launcher(project):
    file = pipeline(project, {"first": ["import json, os, sys", "seen = sys.orig_argv[1:3]", WRITE]})
    done = project.call("run", str(file), "--json")
    assert "each notebook" not in done.stderr
    assert saw(json.loads(done.stdout), "first")[0] == "-c"


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_do_not_fork(monkeypatch, platform):
    from mlops_nb.jobs.launcher import fork_obstacle
    monkeypatch.delenv("MLOPS_NB_FORK", raising=False)
    monkeypatch.setattr(sys, "platform", platform)
    assert fork_obstacle() == f"{platform} has no safe fork"


@pytest.mark.parametrize("fork", ["1", "0"])
def test_the_sample_runs_stages_in_order_and_ends_at_the_first_that_fails(project, fork):
    project.write("settings.ini", (ROOT/"settings.ini").read_text())
    for number, (name, line) in enumerate(
        {
            "first": "open('made.txt', 'w').write(str(rows))",
            "second": "rows / (int(open('made.txt').read()) - 3)",
            "third": "open('late.txt', 'w')",
        }.items(),
        1,
    ):
        write_notebook(project.root/f"nbs/training/0{number}_{name}.ipynb", text(f"# {name}"), text("## Run"),
                       code("import json"), code("rows: int = 3   # how many", "parameters"), code(line))
    done = project.call("sample", MLOPS_NB_FORK=fork)
    assert done.returncode == 1 and "first: " in done.stdout and "second" not in done.stdout
    assert (
        "error: second: exit code 1" in done.stderr
        and "ZeroDivisionError" in done.stderr
        and "rows / (int" in done.stderr
    )
    assert (project.root / ".mlops/sample/made.txt").read_text() == "3" and not (
        project.root / ".mlops/sample/late.txt"
    ).exists()


def test_windows_is_told_what_it_needs(project, monkeypatch):
    from mlops_nb.errors import UserError
    from mlops_nb.jobs.launcher import LauncherClient
    file = pipeline(project, {"first": ["seen = 1", WRITE]})
    windows = ("import sys, filelock, sysconfig, mlops_nb.jobs.runner\nfrom mlops_nb.cli.main import main\n"
               "sysconfig.get_config_vars()\nsys.platform = 'win32'\n"
               f"main(['run', {str(file)!r}], prog_name='mlops-nb')")
    done = subprocess.run([sys.executable, "-c", windows], cwd=project.root, text=True, capture_output=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "need Linux or macOS" in done.stderr and "WSL" in done.stderr
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(UserError, match="need Linux or macOS"): LauncherClient()


def test_an_unchanged_run_imports_nothing_heavy(project):
    file = pipeline(project, {"first": ["import json", "seen = 1", WRITE]})
    project.run(str(file))
    found = loaded(project.root, "run", str(file), "--json")
    assert not found & (HEAVY - {"importlib.metadata"})
    assert "mlops_nb.jobs.plan" in found and "mlops_nb.jobs.runner" not in found


@pytest.mark.parametrize(
    "words, env",
    [(["--help"], {}), ([], {"_MLOPS_NB_COMPLETE": "bash_complete", "COMP_WORDS": "mlops-nb ru", "COMP_CWORD": "1"})],
)
def test_help_and_completion_import_nothing_heavy(tmp_path, words, env):
    found = loaded(tmp_path, *words, **env)
    assert not found & (HEAVY | {"yaml", "rich", "blake3", "pathspec"})


def test_a_step_imports_papermill_without_its_clients_of_clouds(stage):
    nb = stage("x: int = 1   # a number", "import sys\nprint('LOADED', *sys.modules)",
               "import azure.identity, pyarrow.fs")
    done = subprocess.run([sys.executable, "-m", "mlops_nb.step", nb.name], cwd=nb.parent, text=True,
                          capture_output=True)
    found = {*done.stdout.split()}
    assert (
        done.returncode == 0
        and "papermill.execute" in found
        and not found & {"azure.identity", "pyarrow", "nbconvert", "matplotlib"}
    )


def test_papermill_executes_the_step(project):
    look = "seen = [frame.name for frame in traceback.extract_stack() if 'papermill' in frame.filename]"
    file = pipeline(project, {"first": ["import json, traceback", look, WRITE]})
    assert {"execute_notebook", "execute_notebook_with_engine"} <= {*saw(project.run(str(file)), "first")}


def test_commands_are_found_as_the_packaging_standard_finds_them():
    from mlops_nb.plugins import plugins
    for group in ("mlops_nb.commands", "console_scripts", "nbdev", "no such group"):
        assert plugins(group) == {entry.name: entry.value
                                  for entry in distribution("mlops-nb").entry_points.select(group=group)}
    assert plugins("mlops_nb.commands") == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"].get(
        "entry-points", {}
    ).get("mlops_nb.commands", {})


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1.5,
        1e300,
        float("inf"),
        "007",
        "a\n'b' \\ \"c\" é ☃ \ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
        True,
        None,
    ],
)
def test_values_are_injected_as_they_are(stage, value):
    from mlops_nb.notebooks.cells import read_notebook
    from mlops_nb.notebooks.engine import execute
    from mlops_nb.step import papermill_notebook
    nb = stage("x = 0   # anything", "print(repr((x, type(x).__name__)))")
    target = nb.parent/"outputs"/nb.name
    assert execute(papermill_notebook(read_notebook(nb)), {"x": value}, nb, target) == 0
    printed = "".join(json.loads(target.read_text())["cells"][-1]["outputs"][0]["text"])
    assert printed == repr((value, type(value).__name__)) + "\n"


def test_the_executed_notebook_is_one_that_jupyter_reads(stage):
    import nbformat
    nb = stage("x: int = 1   # a number", "print('hi')\nx", "1 / 0", above=("y = 1",))
    done = subprocess.run([sys.executable, "-m", "mlops_nb.step", nb.name, "--x", "2"], cwd=nb.parent, text=True,
                          capture_output=True)
    assert done.returncode == 1
    nbformat.validate(nbformat.read(nb.parent/"outputs"/nb.name, 4))
