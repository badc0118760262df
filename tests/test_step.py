"The step runner, as a job starts it: in a process of its own"
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.support.notebooks import code, stage_cells, write_notebook

STEP = [sys.executable, "-m", "mlops_nb.step"]


def run(notebook, *argv, **kw):
    "Runs a step in the notebook's folder"
    return subprocess.run([*STEP, str(notebook), *argv], cwd=notebook.parent, text=True, capture_output=True, **kw)


def executed(notebook) -> list[dict]:
    "The code cells of the executed notebook"
    done = json.loads((notebook.parent / "outputs" / notebook.name).read_text(encoding="utf-8"))
    return [c for c in done["cells"] if c["cell_type"] == "code"]


def statuses(notebook): return [c["metadata"]["papermill"]["status"] for c in executed(notebook)]


def printed(cell, name="stdout"): return "".join("".join(o["text"]) for o in cell["outputs"] if o.get("name") == name)


def test_values_arrive_as_their_types(stage):
    nb = stage(
        "tail: str = ''   # a\nname: str = ''   # b\nversion: str = ''   # c\nn: int = 1   # d\nrate: float = 0.5   # "
        "e\n"
        "flag: bool = True   # f\nnote: str = ''   # g",
        "print([tail, name, version, n, rate, flag, note])",
    )
    note = 'a "b" \\c\n\'d\' é ${x} $[[y]]'
    done = run(nb, "--tail", "007", "--name", "no", "--version=1.10", "--n", "12", "--rate", "1e-3", "--flag", "False",
               "--note", note)
    assert done.returncode == 0, done.stderr
    assert repr(["007", "no", "1.10", 12, 0.001, False, note]) in done.stdout


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--rat", "1"], "there is no parameter 'rat'\n  accepted: rate, source, target"),
        (["--rate", "high"], "rate is 'high'"),
        (["--rate", "2"], "at most 1"),
        (["--rate"], "--rate has no value"),
        (["--rate", "1", "--rate", "1"], "given twice"),
        (["rate", "1"], "stands where a name"),
        (["--source", "nowhere", "--target", "x"], "which does not exist"),
        (["--source", "."], "target is missing"),
    ],
)
def test_bad_command_lines_run_nothing(stage, argv, message):
    nb = stage(
        "rate: Annotated[float, Range(0, 1)] = 1   # a\nsource: uri_folder = 'in'   # b\ntarget: Output[uri_folder] = "
        "'out'   # c",
        "print('ran')",
    )
    done = run(nb, *argv)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr and "Traceback" not in done.stderr
    assert not (nb.parent / "outputs").exists()


def test_a_failing_cell_is_shown_and_later_cells_stay_pending(stage):
    nb = stage("x: int = 1   # a number", "print('before')\nprint('why', x)\n1 / (x - 1)", "print('after')")
    done = run(nb)
    assert done.returncode == 1
    assert "1 / (x - 1)" in done.stderr and "ZeroDivisionError" in done.stderr and "outputs/stage.ipynb" in done.stderr
    assert statuses(nb) == ["completed", "failed", "pending"]
    assert printed(executed(nb)[1]) == "before\nwhy 1\n"
    assert "ZeroDivisionError" in (nb.parent / "outputs/stage.html").read_text()


def test_library_cells_are_skipped(stage):
    nb = stage("x: int = 1   # a number", "'leak' in globals()", above=("leak = 1", "raise SystemExit(5)"))
    assert run(nb).returncode == 0
    assert statuses(nb) == ["skipped", "skipped", "completed", "completed"]
    assert executed(nb)[-1]["outputs"][0]["data"]["text/plain"] == "False"


def test_displays_streams_and_figures(stage):
    nb = stage(
        "x: int = 1   # a number",
        "import sys\nfrom IPython.display import display, clear_output",
        "h = display('one', display_id=True)\nprint('10 %\\r20 %')\nprint('err', file=sys.stderr)\nh.update('two')\n3",
        "print('gone')\nclear_output(wait=True)\nprint('kept')",
        "import matplotlib.pyplot as plt\nplt.plot([1, 2])",
        "await __import__('asyncio').sleep(0)\n!echo $x",
        "_",
    )
    done = run(nb)
    assert done.returncode == 0, done.stderr
    _, _, shown, cleared, figure, magic, last = executed(nb)
    assert [o["output_type"] for o in shown["outputs"]] == ["display_data", "stream", "stream", "execute_result"]
    assert shown["outputs"][0]["data"]["text/plain"] == "'two'"
    assert printed(shown) == "20 %\n" and printed(shown, "stderr") == "err\n"
    assert printed(cleared) == "kept\n"
    assert [o for o in figure["outputs"] if "image/png" in o.get("data", {})]
    assert printed(magic).strip() == "1"


@pytest.mark.parametrize(
    "source, status",
    [
        ("raise SystemExit", 0),
        ("import sys; sys.exit(0)", 0),
        ("import sys; sys.exit(3)", 1),
        ("raise SystemExit('0')", 1),
        ("input('?')", 1),
        ("def f(:", 1),
        ("%no_such_magic", 1),
        ("raise KeyboardInterrupt", 1),
    ],
)
def test_other_ends_of_a_cell(stage, source, status):
    nb = stage("x: int = 1   # a number", "print('before')", source, "print('after')")
    done = run(nb, stdin=subprocess.DEVNULL)
    assert done.returncode == status, done.stderr
    assert "print('after')" not in done.stdout and "after\n" not in done.stdout
    assert statuses(nb)[-2:] == (["failed", "pending"] if status else ["completed", "skipped"])
    whole = json.loads((nb.parent/"outputs/stage.ipynb").read_text())["metadata"]["papermill"]
    assert bool(whole.get("exception")) == bool(status)
    if source.startswith("input"): assert "make the answer a parameter" in done.stderr


def test_half_a_surrogate_pair_is_saved_and_a_failed_write_leaves_nothing(tmp_path):
    from mlops_nb.notebooks.engine import write_notebook
    write_notebook(tmp_path/"a.json", "\ud800")
    assert json.loads((tmp_path/"a.json").read_text()) == "\ud800"
    (tmp_path/"folder").mkdir()
    with pytest.raises(OSError): write_notebook(tmp_path/"folder", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "folder"]


def test_a_dead_process_leaves_no_cell_completed(stage):
    nb = stage("x: int = 1   # a number", "print('alive')", "import os\nos._exit(9)", "print('after')")
    assert run(nb).returncode == 9
    assert statuses(nb) == ["completed", "completed", "running", "pending"]
    from mlops_nb.notebooks.engine import fail_running_cells
    assert fail_running_cells(nb.parent / "outputs/stage.ipynb", "exit code 9")
    assert statuses(nb) == ["completed", "completed", "failed", "pending"]
    assert not fail_running_cells(nb.parent / "outputs/stage.ipynb", "exit code 9")


def start(nb):
    "A running step that has printed `ready`"
    process = subprocess.Popen([*STEP, nb.name], cwd=nb.parent, text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    while "ready" not in (line := process.stdout.readline()): assert line, process.stderr.read()
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "source",
    ["import time; time.sleep(60)", "import time\ntry: time.sleep(60)\nexcept BaseException: print('swallowed')"],
)
def test_a_signal_saves_the_cell_that_it_ends(stage, number, source):
    nb = stage("x: int = 1   # a number", f"print('ready', flush=True)\n{source}", "print('after')")
    process = start(nb)
    time.sleep(0.2)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert statuses(nb) == ["completed", "failed", "pending"]
    cell = executed(nb)[1]
    assert printed(cell).startswith("ready\n") and cell["outputs"][-1]["ename"] == "Interrupted"


@pytest.mark.parametrize(
    "source",
    [
        "import hashlib\nhashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)",
        "import time\nwhile True:\n    try: time.sleep(60)\n    except BaseException: pass",
    ],
)
def test_a_signal_ends_a_cell_that_never_looks_up(stage, source):
    nb = stage("x: int = 1   # a number", f"print('ready', flush=True)\n{source}", "print('after')")
    process = start(nb)
    time.sleep(0.2)
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert statuses(nb) == ["completed", "failed", "pending"] and printed(executed(nb)[1]) == "ready\n"


def test_a_child_that_a_cell_terminates_does_not_end_the_step(stage):
    nb = stage(
        "x: int = 1   # a number",
        "import multiprocessing, time\n"
        "child = multiprocessing.get_context('fork').Process(target=time.sleep, "
        "args=(60,))\nchild.start()\ntime.sleep(0.5)\n"
        "child.terminate()\nchild.join()\nprint(child.exitcode)\ntime.sleep(5)",
        "print('after')",
    )
    done = run(nb)
    assert done.returncode == 0 and done.stdout.startswith("-15\nafter\n"), done.stderr


def test_output_is_live(stage):
    nb = stage("x: int = 1   # a number", "import time\nprint('ready')\ntime.sleep(30)")
    process = start(nb)
    assert process.poll() is None
    process.kill()
    process.communicate()


def test_a_smoke_run_has_its_notebooks_folder(tmp_path):
    heading, run, parameters, job = stage_cells("source: uri_folder = '../data'   # a folder",
                                                "import os\nprint(os.path.isdir(source))")
    types = code("from mlops_nb.parameters import uri_folder")
    nb = write_notebook(tmp_path / "nbs/stage.ipynb", heading, run, types, parameters, job)
    (tmp_path / "data").mkdir()
    done = subprocess.run([*STEP, str(nb)], cwd=tmp_path, text=True, capture_output=True)
    assert done.stdout.startswith("True\n"), done.stderr
    assert (tmp_path / "outputs/stage.ipynb").exists() and not (tmp_path / "nbs/outputs").exists()


def test_the_page_needs_no_network(stage):
    import re
    nb = stage("x: int = 1   # a number", "x")
    assert run(nb).returncode == 0
    page = (nb.parent / "outputs/stage.html").read_text()
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//|@import|from ['"]https?:""", page)


def test_plain_papermill_gives_the_same_result(stage):
    import papermill
    nb = stage("x: int = 1   # a number", "y = x * 2\ny")
    assert run(nb, "--x", "21").returncode == 0
    ours = executed(nb)[-1]["outputs"][0]["data"]
    plain = papermill.execute_notebook(str(nb), None, parameters={"x": 21}, kernel_name="python3", language="python",
                                       progress_bar=False)
    assert plain.cells[-1].outputs[0].data == ours == {"text/plain": "42"}


def test_it_runs_twice_in_one_process(stage, monkeypatch, capsys):
    from mlops_nb.step import main
    nb = stage("x: int = 1   # a number", "print('value', x)\nz = 1",
               "import matplotlib.pyplot as plt\nplt.plot([1, 2]);")
    monkeypatch.chdir(nb.parent)
    before = (sys.stdout, sys.modules["__main__"], signal.getsignal(signal.SIGTERM), os.environ.get("MPLBACKEND"))
    for x in ("2", "3"):
        assert main([nb.name, "--x", x]) == 0
        assert f"value {x}" in capsys.readouterr().out
        assert [o for o in executed(nb)[-1]["outputs"] if "image/png" in o.get("data", {})]
    assert before == (sys.stdout, sys.modules["__main__"], signal.getsignal(signal.SIGTERM),
                      os.environ.get("MPLBACKEND"))


def test_it_works_in_a_forked_child(stage, tmp_path):
    nb = stage("x: int = 1   # a number", "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nprint('in the child')")
    script = ("import os, sys, pandas, matplotlib.pyplot, IPython, papermill, mlops_nb.notebooks.engine\n"
              "pid = os.fork()\n"
              "if pid == 0:\n    from mlops_nb.step import main\n    os._exit(main(['stage.ipynb']))\n"
              "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))")
    done = subprocess.run([sys.executable, "-c", script], cwd=nb.parent, text=True, capture_output=True)
    assert done.returncode == 0 and "in the child" in done.stdout, done.stderr
    assert [o for o in executed(nb)[-1]["outputs"] if "image/png" in o.get("data", {})]
