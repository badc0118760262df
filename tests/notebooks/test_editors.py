"Notebooks as editors and their users write them: run by papermill with a kernel and by a step, they end alike"

import json
import os
import re
import subprocess
import sys

import pytest

from mlops_nb.errors import UserError
from mlops_nb.notebooks.cells import is_stage, parameters_cell, read_notebook

from tests.support.notebooks import code, stage_cells, text, write_notebook

TASK = "import asyncio\nasync def f(n):\n    await asyncio.sleep(0.01)\n    return n"
CELLS = {  # Cells of one notebook each, by what they are about
    "create_task": [TASK, "t = asyncio.create_task(f(3))", "print('result', await t)"],
    "ensure_future": [
        TASK,
        "t = asyncio.ensure_future(f(4))\ns = asyncio.get_event_loop().create_task(f(5))",
        "await t, await s",
    ],
    "gather": [TASK, "both = asyncio.gather(f(1), f(2))", "print(await both)"],
    "a lock in two cells": [
        "import asyncio\nlock = asyncio.Lock()\nawait lock.acquire()",
        "lock.release()\nasync with lock: print('held')",
    ],
    "a queue and a worker": [
        "import asyncio\nq, seen = asyncio.Queue(), []\nasync def work():\n"
        "    while True: seen.append(await q.get())\nt = asyncio.create_task(work())",
        "for n in range(3): q.put_nowait(n)",
        "await asyncio.sleep(0.05)\nprint(seen)\nt.cancel()",
    ],
    "asyncio.run": ["import asyncio\nasync def f(): return 1", "asyncio.run(f())"],
    "a task that fails": [
        "import asyncio\nasync def f(): raise ValueError('late')\nt = asyncio.create_task(f())",
        "await t",
    ],
    "input": ["input('Which day?')"],
    "getpass": ["import getpass\ngetpass.getpass('Key: ')"],
    "from getpass": ["from getpass import getpass\ngetpass()"],
    "display_id": ["from IPython.display import display\nh = display('one', display_id='a')", "h.update('two')"],
    "displayed again": [
        "from IPython.display import display\n_ = display('one', display_id='a')",
        "_ = display('two', display_id='a')",
    ],
    "clear_output": ["from IPython.display import clear_output\nprint(1)\nclear_output(wait=True)\nprint(2)"],
    "bash in the background": [
        "%%bash --bg\necho hello > said",
        "import time, os\n"
        "for _ in range(200):\n    if os.path.exists('said') and open('said').read(): break\n"
        "    time.sleep(0.02)\nprint(open('said').read())",
    ],
    "spawn": [
        "import multiprocessing as m\nfrom math import sqrt\nwith m.get_context('spawn').Pool(1) as p:\n"
        "    print(p.map(sqrt, [9]))"
    ],
    "an aiohttp client of two cells": [
        "import asyncio, aiohttp\nfrom aiohttp import web\n"
        "async def hello(request): return web.json_response({'n': 7})\n"
        "app = web.Application()\napp.router.add_get('/', hello)\nrunner = web.AppRunner(app)\nawait runner.setup()\n"
        "site = web.TCPSite(runner, '127.0.0.1', 0)\nawait site.start()\n"
        "port = site._server.sockets[0].getsockname()[1]\nsession = aiohttp.ClientSession()",
        "async def get():\n"
        "    async with session.get(f'http://127.0.0.1:{port}/') as r: return r.status, await r.json()\n"
        "await asyncio.gather(get(), get())",
        "await session.close()\nawait runner.cleanup()\nsession.closed",
    ],
    "an aiohttp client that is refused": [
        "import aiohttp\nsession = aiohttp.ClientSession()",
        "try: await session.get('http://127.0.0.1:1/')\nfinally: await session.close()",
    ],
    "tqdm": [
        "import sys\nfrom tqdm import tqdm\n"
        "print(sum(tqdm(range(100), file=sys.stdout, mininterval=9, bar_format='{n_fmt}/{total_fmt}')))"
    ],
    "tqdm.auto": [
        "from tqdm.auto import tqdm\nfor n in tqdm(range(3), bar_format='{n_fmt}/{total_fmt}'): pass\nprint(n)"
    ],
    "widgets": [
        "import ipywidgets as w\nfrom IPython.display import display\n"
        "slider = w.IntSlider(value=3, max=9)\nslider",
        "slider.value = 5\nout = w.Output()\nwith out: print('inside')\ndisplay(out, w.HTML('<b>x</b>'))\nslider.value",
        "seen = []\nslider.observe(lambda change: seen.append(change['new']), 'value')\nslider.value = 7\nprint(seen)",
        "button = w.Button()\nbutton.on_click(lambda b: print('clicked'))\nbutton.click()\n"
        "print(len(w.VBox([button]).children))",
    ],
    "outputs in a widget": [
        "import ipywidgets as w\nfrom IPython.display import display, clear_output\nout = w.Output()\n"
        "with out:\n    print('first')\n    clear_output(wait=True)\n    print('second')\n    display('third')\nout",
        "print([o.get('text') or o['data'] for o in out.outputs])",
        "@out.capture(clear_output=True)\ndef f(): print('again'); 1 / 0\nf()\nprint('goes on')",
        "print(len(out.outputs), out.outputs[1]['ename'])",
    ],
    "interact": ["from ipywidgets import interact\n@interact(n=(0, 9))\ndef square(n=3): return n * n"],
    "a widget that fails": ["import ipywidgets as w\nw.IntSlider(value='many')"],
    "tqdm.notebook": [
        "from tqdm.notebook import tqdm, trange\n"
        "bar = tqdm(range(3), desc='rows')\nfor n in bar: pass\nprint(n, bar.n)",
        "for n in trange(2, leave=False): pass\nprint(n)",
    ],
    "tqdm.notebook and an error": [
        "from tqdm.notebook import tqdm\nfor n in tqdm(range(3)):\n    if n == 1: raise ValueError(n)"
    ],
    "a process that is spawned": [
        "import multiprocessing as m, math\np = m.get_context('spawn').Process(target=math.sqrt, args=(9,))\n"
        "p.start(); p.join(); print(p.exitcode)"
    ],
    "an update after other output": [
        "from IPython.display import display\nh = display('one', display_id=True)\nprint('between')\nh.update('two')",
        "h.update('three')\nprint('later')",
    ],
    "much output": ["for n in range(3000): print(n, 'y' * 200)", "import sys\nsys.stdout.write('no end of line')"],
    "binary and html": [
        "from IPython.display import HTML, SVG, display\n"
        "display(HTML('<i>a</i>'), SVG('<svg xmlns=\"http://www.w3.org/2000/svg\"/>'))\n"
        "display({'application/octet-stream': 'AAH/', 'text/plain': 'bytes'}, raw=True)"
    ],
    "long output": ["print('x' * 50_000)\n'y' * 1000"],
    "bytes": [
        "b'\\x00\\xff'",
        "from IPython.display import Image, display\ndisplay(Image(data=b'\\x89PNG\\r\\n\\x1a\\n', format='png'))",
    ],
}


def run(path, **env):
    "A step of this notebook"
    return subprocess.run(
        [sys.executable, "-m", "mlops_nb.step", path.name],
        cwd=path.parent,
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **env},
    )


def told(output):
    "What a user sees of an output"
    if output["output_type"] == "error":
        return output["ename"]
    if output["output_type"] == "stream":
        return output["name"], "".join(output["text"])
    def plain(value):
        return sorted(value) if isinstance(value, dict) else "".join(value)

    return output["output_type"], {mime: plain(value) for mime, value in output["data"].items()}


def join_streams(outputs):
    "What a reader sees: texts that follow each other are one, and what follows a carriage return is written over"
    joined = []
    for output in outputs:
        if joined and output[0] == "stdout" == joined[-1][0]:
            joined[-1] = ("stdout", joined[-1][1] + output[1])
        else:
            joined.append(output)
    return [
        ("stdout", re.sub(r"[^\n]*\r(?!\n)", "", output[1])) if output[0] == "stdout" else output for output in joined
    ]


def ends(nb):
    "Outputs of every executed cell of a notebook"
    return [
        join_streams([told(o) for o in c["outputs"] if o.get("name") != "stderr"])
        for c in nb["cells"]
        if c["cell_type"] == "code"
    ]


def by_papermill(path, tmp_path, monkeypatch):
    "The outputs with a kernel; papermill writes the notebook also when a cell fails"
    import papermill
    import zmq
    from nbclient.output_widget import OutputWidget

    send = OutputWidget.send

    def send_and_look(widget, *args, **kwargs):
        # nbclient sends past asyncio: the kernel's reply that comes in meanwhile rouses nobody, and the cell never ends
        send(widget, *args, **kwargs)
        widget.kernel_client.shell_channel.socket.get(zmq.EVENTS)

    monkeypatch.setattr(OutputWidget, "send", send_and_look)
    monkeypatch.chdir(path.parent)
    target = tmp_path / "plain.ipynb"
    try:
        papermill.execute_notebook(
            str(path), str(target), kernel_name="python3", language="python", progress_bar=False
        )
    except papermill.PapermillExecutionError:
        pass
    cells = json.loads(target.read_text())["cells"]
    return ends({"cells": [c for c in cells if "papermill-error-cell-tag" not in c["metadata"].get("tags", ())]})


@pytest.mark.parametrize("name", CELLS)
def test_a_step_ends_like_papermill(tmp_path, monkeypatch, name):
    path = write_notebook(tmp_path / "nb" / "stage.ipynb", *stage_cells("x: int = 1   # a number", *CELLS[name]))
    done = run(path)
    ours = ends(json.loads((path.parent / "outputs" / path.name).read_text()))
    (path.parent / "said").unlink(missing_ok=True)
    plain = by_papermill(path, tmp_path, monkeypatch)
    assert ours == plain
    assert (done.returncode != 0) == any(isinstance(o, str) for cell in plain for o in cell)


def test_the_executed_notebook_keeps_the_states_of_widgets(tmp_path):
    cells = ["import ipywidgets as w\nw.IntSlider(value=3)", "w.Image(value=b'\\x89PNG')", "with w.Output(): print(5)"]
    path = write_notebook(tmp_path / "stage.ipynb", *stage_cells("x: int = 1   # a number", *cells))
    assert run(path).returncode == 0
    nb = json.loads((path.parent / "outputs" / path.name).read_text())
    states = nb["metadata"]["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    found = {one["model_name"]: one for one in states.values()}
    assert found["IntSliderModel"]["state"]["value"] == 3 and found["IntSliderModel"]["model_module"]
    assert found["ImageModel"]["buffers"][0]["data"] == "iVBORw=="
    assert found["OutputModel"]["state"]["outputs"] == [{"output_type": "stream", "name": "stdout", "text": "5\n"}]
    shown = next(o for c in nb["cells"] for o in c.get("outputs", []) if "data" in o)
    view = shown["data"]["application/vnd.jupyter.widget-view+json"]
    assert states[view["model_id"]]["model_name"] == "IntSliderModel"


@pytest.mark.parametrize("source", ["exit()", "quit", "if True:\n    quit()", "exit(0)", "import sys; sys.exit()"])
def test_leaving_is_success(tmp_path, source):
    path = write_notebook(tmp_path / "stage.ipynb", *stage_cells("x: int = 1   # a number", source, "print('after')"))
    done = run(path)
    assert done.returncode == 0 and "after" not in done.stdout and "ask_exit" not in done.stderr


def test_leaving_with_a_number_is_failure(tmp_path):
    path = write_notebook(tmp_path / "stage.ipynb", *stage_cells("x: int = 1   # a number", "exit(3)"))
    assert run(path).returncode == 1


PARAMETERS = {"cell_type": "code", "source": "x: int = 1  # a number", "metadata": {"tags": ["parameters"]}}


def raw(path, *cells, **keys):
    path.write_text(json.dumps({"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5, **keys}))
    return path


@pytest.mark.parametrize(
    "head", ["## Run\r\n\r\nThe job.\r\n", "## Run ##", "  ## Run  ", "##\tRun", "Text\n\n## Run\nmore", "Run\n---"]
)
def test_a_heading_is_one_as_in_markdown(tmp_path, head):
    nb = read_notebook(
        raw(tmp_path / "a.ipynb", {"cell_type": "markdown", "source": head, "metadata": {}}, PARAMETERS)
    )
    assert parameters_cell(nb).source == PARAMETERS["source"]


@pytest.mark.parametrize(
    "head", ["```md\n## Run\n```", "~~~\n## Run\n~~~", "    ## Run", "### Run", "## Running", "`## Run`"]
)
def test_what_is_no_heading(tmp_path, head):
    assert not is_stage(
        read_notebook(raw(tmp_path / "a.ipynb", {"cell_type": "markdown", "source": head, "metadata": {}}))
    )


@pytest.mark.parametrize(
    "cell",
    [
        {"cell_type": "code", "source": "print('fine')"},
        {
            "cell_type": "code",
            "source": ["print(\r\n", "'fine')"],
            "metadata": None,
            "outputs": None,
            "execution_count": None,
        },
        {"cell_type": "code", "source": "print('fine')", "metadata": {"tags": None}, "id": None},
        {"cell_type": "code", "source": "print('fine')", "metadata": {"tags": "mine"}},
    ],
)
def test_keys_that_are_null_or_absent(tmp_path, cell):
    head = {"cell_type": "markdown", "source": ["## Run"]}
    empty = {"cell_type": "code", "source": None}
    done = run(raw(tmp_path / "a.ipynb", head, PARAMETERS, empty, cell, metadata=None))
    assert done.returncode == 0 and "fine" in done.stdout.splitlines(), done.stderr


def test_a_notebook_of_format_3_runs(tmp_path):
    cells = [
        {"cell_type": "heading", "level": 2, "source": "Run", "metadata": {}},
        {
            "cell_type": "code",
            "input": PARAMETERS["source"],
            "metadata": {"tags": ["parameters"]},
            "outputs": [],
            "language": "python",
            "collapsed": False,
        },
        {"cell_type": "code", "input": "print('fine')", "metadata": {}, "outputs": [], "language": "python"},
    ]
    path = tmp_path / "a.ipynb"
    path.write_text(
        json.dumps({"metadata": {}, "nbformat": 3, "nbformat_minor": 0, "worksheets": [{"cells": cells}]})
    )
    done = run(path)
    assert done.returncode == 0 and "fine" in done.stdout.splitlines(), done.stderr


def test_what_is_no_notebook_is_said_once(tmp_path):
    for content in ("[]", "{}", '{"cells": 3}', '{"cells": [3]}', '{"cells": [{}]}', "", "\\ufeff"):
        (tmp_path / "a.ipynb").write_text(content)
        with pytest.raises(UserError, match="a.ipynb"):
            read_notebook(tmp_path / "a.ipynb")


def test_text_of_a_windows_editor_is_read(tmp_path):
    cells = [text("## Run"), code(PARAMETERS["source"], "parameters")]
    (tmp_path / "a.ipynb").write_bytes(b"\xef\xbb\xbf" + json.dumps({"cells": cells}).encode())
    assert is_stage(read_notebook(tmp_path / "a.ipynb"))
