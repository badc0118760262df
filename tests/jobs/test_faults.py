"""What goes wrong in real life: damaged files, killed processes, notebooks that misbehave; each ends in one clear
message and true statuses"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.jobs import CLI, Project, steps, wait_for
from tests.support.notebooks import code, text, write_notebook
from tests.support.rights import bound_by_permissions
from tests.support.searching import files_with

ENV = "environment: {image: python}"
STEP = f"{{command: 'echo hi > ${{{{outputs.o}}}}/f', outputs: {{o: {{type: uri_folder}}}}, {ENV}}}"
ONE = f"type: pipeline\njobs:\n  a: {STEP}\n"


def alive(pid: int) -> bool:
    "Whether a process runs; one that is dead and not yet waited for does not"
    try: return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError): return False


def children(pid: int) -> list[int]:
    return [int(word) for task in Path(f"/proc/{pid}/task").iterdir() for word in (task/"children").read_text().split()]


def one_message(done, code: int = 2) -> str:
    "The message of a command that refused something, which is no traceback"
    assert "Traceback" not in done.stdout + done.stderr, done.stderr[-1500:]
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def jobs(project) -> list:
    return project.workspace.rows("SELECT * FROM jobs") if (project.root/".mlops"/"workspace.db").exists() else []


# Notebooks that misbehave: all of them are steps of one job

CELLS = {
    "whole": ["print('fine')"],
    "exit_zero": ["import os", "os._exit(0)", "print('never')"],
    "exit_three": ["import os", "os._exit(3)", "print('never')"],
    "segfault": ["import ctypes", "ctypes.string_at(0)"],
    "killed": ["import os, signal", "os.kill(os.getpid(), signal.SIGKILL)"],
    "hungry": ["bytearray(1 << 62)"],
    "asks": ["x = 1", "input('name?')"],
    "leaves": ["import sys", "sys.exit(0)", "print('never')"],
    "thread": ["import threading, time",
               "threading.Thread(target=lambda: (time.sleep(1.5), open(out + '/late', 'w').write('x'))).start()"],
    "pool": ["from joblib import Parallel, delayed", "print(Parallel(2)(delayed(abs)(i) for i in [-1, 2]))"],
    "demon": ["import subprocess", "print('pid', subprocess.Popen(['sleep', '300'], start_new_session=True).pid)"],
    "no_folder": ["import os, shutil", "shutil.rmtree(out); open(out, 'w').write('a file')"],
    "own_folder": ["import os, shutil", "shutil.rmtree(os.getcwd())"],
}


def misbehave(root: Path, names, limit: int = 30) -> str:
    "Notebooks of these cells, and the job that runs them all"
    lines = ["type: pipeline", "settings: {continue_on_step_failure: true}", "jobs:"]
    for name in names:
        cells = [text("# Step\n\n> For a test"), text("## Run"),
                 code("from mlops_nb.parameters import Output, uri_folder"),
                 code('out: Output[uri_folder] = "out"   # a folder', "parameters"), *map(code, CELLS[name])]
        write_notebook(root/"code"/f"{name}.ipynb", *cells)
        lines.append(
            f"  {name}: {{code: code, command: 'python -m mlops_nb.step {name}.ipynb --out ${{{{outputs.out}}}}', "
            f"outputs: {{out: {{type: uri_folder}}}}, limits: {{timeout: {limit}}}, {ENV}}}"
        )
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def misbehaved(tmp_path_factory, empty_store):
    project = Project(tmp_path_factory.mktemp("faults")/"project", empty_store)
    project.write("all.yml", misbehave(project.root, CELLS))
    done = project.call("run", "all.yml", "--jobs", "4", "--json")
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    project.job = json.loads(done.stdout)
    return project


def step_of(project, name): return steps(project.job)[name]
def log_of(project, name): return (Path(project.job["folder"])/name/"std_log.txt").read_text()
def cells_of(project, name):
    done = json.loads((Path(project.job["folder"])/name/"code"/"outputs"/f"{name}.ipynb").read_text())
    return [cell["metadata"]["papermill"]["status"] for cell in done["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("name, said", [
    ("exit_three", "exit code 3"), ("segfault", "SIGSEGV"), ("killed", "short of memory, give the step fewer rows")])
def test_a_process_that_dies_fails_its_step_and_marks_the_cell(misbehaved, name, said):
    assert step_of(misbehaved, name)["status"] == "Failed" and said in step_of(misbehaved, name)["error"]
    assert "failed" in cells_of(misbehaved, name) and "running" not in cells_of(misbehaved, name)


def test_a_step_that_runs_out_of_memory_says_what_to_do_and_shows_no_traceback(misbehaved):
    log = log_of(misbehaved, "hungry")
    assert step_of(misbehaved, "hungry")["status"] == "Failed" and "MemoryError" in log and "Traceback" not in log
    assert "fix: give the step fewer rows or columns (a smaller `cells`" in log


def test_a_process_that_leaves_in_the_middle_of_its_notebook_has_not_succeeded(misbehaved):
    assert step_of(misbehaved, "exit_zero")["status"] == "Failed"
    assert "running" not in cells_of(misbehaved, "exit_zero")


def test_sys_exit_0_is_a_success_in_the_notebook_too(misbehaved):
    assert step_of(misbehaved, "leaves")["status"] == "Completed" and "failed" not in cells_of(misbehaved, "leaves")


def test_input_is_refused_with_what_to_do_instead(misbehaved):
    assert step_of(misbehaved, "asks")["status"] == "Failed" and "make the answer a parameter" in log_of(
        misbehaved, "asks"
    )


def test_a_threads_work_is_waited_for(misbehaved):
    assert (
        step_of(misbehaved, "thread")["status"] == "Completed"
        and (Path(step_of(misbehaved, "thread")["outputs"]["out"]) / "late").exists()
    )


def test_a_pool_of_processes_does_not_keep_its_step_from_ending(misbehaved):
    assert step_of(misbehaved, "pool")["status"] == "Completed", step_of(misbehaved, "pool")["error"]
    assert step_of(misbehaved, "pool")["seconds"] < 28


def test_a_process_with_a_session_of_its_own_does_not_outlive_its_step(misbehaved):
    pid = int(re.search(r"pid (\d+)", log_of(misbehaved, "demon"))[1])
    try: wait_for(lambda: not alive(pid), 2)
    finally:
        if alive(pid): os.kill(pid, signal.SIGKILL)


def test_a_folder_output_that_became_a_file_fails_the_step(misbehaved):
    assert (
        step_of(misbehaved, "no_folder")["status"] == "Failed" and "folder" in step_of(misbehaved, "no_folder")["error"]
    )


def test_a_step_that_deletes_its_own_folder_fails_alone(misbehaved):
    assert (
        step_of(misbehaved, "own_folder")["status"] == "Failed"
        and step_of(misbehaved, "whole")["status"] == "Completed"
    )


def test_steps_are_the_same_with_and_without_forking(tmp_path, empty_store):
    names, seen = ["whole", "exit_three", "segfault"], []
    for fork in ("1", "0"):
        project = Project(tmp_path/f"fork{fork}", empty_store)
        project.write("same.yml", misbehave(project.root, names))
        project.job = project.run("same.yml", "--jobs", "2", code=1, MLOPS_NB_FORK=fork)
        log = re.sub(r"[\d.]+ s\b|/\S+", "*", log_of(project, "whole"))
        prints = [row["outputs"] and {port: one["fingerprint"] for port, one in json.loads(row["outputs"]).items()}
                  for row in project.workspace.rows("SELECT outputs FROM steps ORDER BY name")]
        seen.append([[step_of(project, name)["status"], step_of(project, name)["error"], cells_of(project, name)]
                     for name in names] + [log, prints])
    assert seen[0] == seen[1]


# Signals and kills

STUBBORN = f"command: \"trap '' TERM INT; touch $UP; while :; do sleep 0.1; done\"\n{ENV}\n"


def test_a_command_hears_sigterm_and_may_save(project):
    project.write(
        "save.yml", f"command: \"trap 'touch $SAVED; kill $!; exit 0' TERM; touch $UP; sleep 300 & wait\"\n{ENV}\n"
    )
    up, saved = project.root/"up", project.root/"saved"
    runner = project.start("run", "save.yml", UP=str(up), SAVED=str(saved))
    wait_for(up.exists)
    started = time.monotonic()
    runner.send_signal(signal.SIGTERM)
    runner.communicate(timeout=30)
    assert (runner.returncode, saved.exists()) == (143, True) and time.monotonic() - started < 5


def test_a_time_limit_is_kept(project):
    project.write("slow.yml", f"{{command: sleep 60, limits: {{timeout: 1}}, {ENV}}}")
    assert project.run("slow.yml", code=1)["steps"][0]["seconds"] < 6


def test_ctrl_c_twice_leaves_at_once_and_says_canceled(project):
    project.write("stubborn.yml", STUBBORN)
    up = project.root/"up"
    runner = project.start("run", "stubborn.yml", UP=str(up))
    wait_for(up.exists)
    started = time.monotonic()
    runner.send_signal(signal.SIGINT)
    time.sleep(0.5)
    runner.send_signal(signal.SIGINT)
    out, err = runner.communicate(timeout=30)
    assert runner.returncode == 130 and "Traceback" not in err and time.monotonic() - started < 6
    job = json.loads(project.call("show", "last", "--json").stdout)
    assert (job["status"], job["steps"][0]["status"]) == ("Canceled", "Canceled")


@pytest.mark.parametrize("both", [False, True], ids=["runner", "runner-and-launcher"])
def test_kill_9_never_lets_two_copies_of_a_step_run(project, both):
    project.write("once.yml", """
        type: pipeline
        jobs:
          once:
            command: for p in $(cat $PIDS); do test -e /proc/$p && ! grep -q ') Z' /proc/$p/stat && touch $OVERLAP; done; echo $$ >> $PIDS; test -e $GO || sleep 300
            environment: {image: python}
        """)  # noqa: E501
    pids, overlap, go = (project.root/name for name in ("pids", "overlap", "go"))
    pids.touch()
    env = {"PIDS": str(pids), "OVERLAP": str(overlap), "GO": str(go)}
    runner = project.start("run", "once.yml", **env)
    wait_for(lambda: pids.read_text().endswith("\n"))
    wait_for(lambda: project.workspace.rows("SELECT 1 FROM steps WHERE pid IS NOT NULL"))
    first, launchers = int(pids.read_text()), children(runner.pid)
    runner.kill()
    for pid in launchers if both else ():
        os.kill(pid, signal.SIGKILL)
    runner.wait()
    go.touch()
    try:
        assert project.run("once.yml", **env)["attempt"] == 2
        assert not overlap.exists() and not alive(first)
    finally:
        if alive(first): os.killpg(first, signal.SIGKILL)


def test_no_mlflow_run_of_a_killed_attempt_is_left_running(project):
    import sqlite3
    project.write(
        "retry.yml", f"type: pipeline\njobs:\n  a: {{command: 'touch $UP; test -e $GO || sleep 300', {ENV}}}\n"
    )
    env = {"UP": str(project.root/"up"), "GO": str(project.root/"go")}
    runner = project.start("run", "retry.yml", **env)
    wait_for((project.root/"up").exists)
    runner.kill()
    runner.wait()
    (project.root/"go").touch()
    project.run("retry.yml", **env)
    with sqlite3.connect(project.root/".mlops"/"mlflow.db") as db:
        states = [row[0] for row in db.execute("SELECT status FROM runs")]
    db.close()
    assert "RUNNING" not in states and states.count("FINISHED") == 2


# Secrets

def test_secrets_of_the_user_are_written_nowhere(project):
    project.write("job.yml", ONE)
    names = ("MY_SECRET", "AZURE_CLIENT_SECRET", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AZUREML_KEY",
             "AZURE_ML_TOKEN")
    project.run("job.yml", **{name: "hunter2hunter2" for name in names})
    assert files_with(project.root/".mlops", ["hunter2hunter2"]) == []


# Files that are no jobs, and jobs that are no good

@pytest.mark.parametrize(
    "text",
    [
        "type: pipeline\njobs: {}\n",
        f"command: 'true'\ninputs: [a]\n{ENV}\n",
        f'command: "echo a\\0b"\n{ENV}\n',
        f"command: 'echo ${{{{inputs.x}}}}'\ninputs: {{x: \"a\\0b\"}}\n{ENV}\n",
        f"command: 'true'\nenvironment_variables: {{'A=B': x}}\n{ENV}\n",
        f"command: 'true'\nenvironment_variables: {{A: \"x\\0y\"}}\n{ENV}\n",
        f"command: 'true'\noutputs: {{../x: {{type: uri_folder}}}}\n{ENV}\n",
        f"type: pipeline\njobs:\n  a.b: {{command: 'true', {ENV}}}\n",
        f"type: pipeline\njobs:\n  a/b: {{command: 'true', {ENV}}}\n",
    ],
    ids=[
        "no-jobs",
        "inputs-list",
        "nul-in-command",
        "nul-in-input",
        "equals-in-variable",
        "nul-in-variable",
        "output-outside",
        "dot",
        "slash",
    ],
)
def test_a_bad_job_is_one_message_and_starts_nothing(project, text):
    project.write("bad.yml", text)
    assert "bad.yml" in one_message(project.call("run", "bad.yml"))
    assert not jobs(project)


@pytest.mark.parametrize(
    "name, text",
    [
        ("schedule", "name: s\ntrigger: {type: cron, expression: '0 5 * * *'}\ncreate_job: ./job.yml\n"),
        (
            "environment",
            "$schema: https://azuremlschemas.azureedge.net/latest/environment.schema.json\nname: e\nimage: python\n",
        ),
        (
            "data",
            "$schema: https://azuremlschemas.azureedge.net/latest/data.schema.json\nname: d\ntype: uri_file\npath: "
            "job.yml\n",
        ),
        (
            "component",
            f"name: c\nversion: '1'\ntype: command\ncommand: cat ${{{{inputs.x}}}}\ninputs: {{x: {{type: "
            f"uri_file}}}}\n{ENV}\n",
        ),
    ],
    ids=["schedule", "environment", "data", "component"],
)
def test_what_is_no_job_does_not_run(project, name, text):
    project.write("job.yml", ONE)
    project.write("other.yml", text)
    assert name in one_message(project.call("run", "other.yml"))
    assert not jobs(project)


@pytest.mark.parametrize("value", ["[1", "{a: b}", "'", "!!x y", "&a"])
def test_a_value_of_set_that_yaml_cannot_read_is_one_message(project, value):
    project.write(
        "job.yml",
        f"type: pipeline\ninputs: {{x: 1}}\njobs:\n  a: {{command: 'echo ${{{{inputs.x}}}}', inputs: {{x: "
        f"'${{{{parent.inputs.x}}}}'}}, {ENV}}}\n",
    )
    one_message(project.call("run", "job.yml", "--set", f"inputs.x={value}"))


def test_a_step_may_have_the_name_of_a_file_of_the_workspace(project):
    project.write("lock.yml", ONE.replace("  a:", "  lock:"))
    done = project.call("run", "lock.yml")
    assert done.returncode in (0, 2) and "Traceback" not in done.stderr


def test_a_command_that_is_too_long_says_so(project):
    project.write("long.yml", f"command: 'echo ${{{{inputs.x}}}} | wc -c'\ninputs: {{x: '{'x' * 200_000}'}}\n{ENV}\n")
    assert "too long" in one_message(project.call("run", "long.yml"), 1)


@pytest.mark.parametrize("name", ['a/../../b  "ünï" <b>', "日本語", ""])
def test_any_display_name_will_do(project, name):
    project.write("job.yml", f"display_name: {json.dumps(name, ensure_ascii=False)}\n{ONE}")
    job = project.run("job.yml")
    assert Path(job["folder"]).parent == project.root/".mlops"/"jobs" and re.fullmatch(r"[a-z0-9\-]+", job["id"])


# Damage and awkward places

def test_databases_are_whole_without_their_logs_when_a_command_has_ended(project):
    project.write("job.yml", ONE)
    project.run("job.yml")
    assert sorted(path.name for path in (project.root/".mlops").glob("*.db*")) == ["mlflow.db", "workspace.db"]


@pytest.mark.parametrize("name", ["workspace.db", "mlflow.db"])
@pytest.mark.parametrize("start", [0, 4096])
def test_a_damaged_database_is_one_message_that_names_it(project, name, start):
    project.write("job.yml", ONE)
    project.run("job.yml")
    for path in (project.root/".mlops").glob(f"{name}-*"): path.unlink()
    path = project.root/".mlops"/name
    content = path.read_bytes()
    path.write_bytes(content[:start] + b"garbage!" * ((len(content) - start) // 8))
    for words in (
        (("run", "job.yml", "--from", "a"), ("jobs",))
        if name == "workspace.db"
        else (("run", "job.yml", "--from", "a"),)
    ):
        done = project.call(*words)
        assert name in one_message(done, done.returncode) and done.returncode in (1, 2)


@pytest.mark.skipif(
    os.geteuid() == 0 and sys.platform != "linux",
    reason="root writes everywhere, and only Linux can take that from it: run the tests as another user",
)
def test_a_folder_that_may_not_be_written_is_not_called_a_full_disk(tmp_path):
    (tmp_path/"job.yml").write_text(ONE)
    tmp_path.chmod(0o555)
    try:
        said = one_message(subprocess.run([*CLI, "run", "job.yml"], cwd=tmp_path, text=True, capture_output=True,
                                          preexec_fn=bound_by_permissions))
    finally: tmp_path.chmod(0o755)
    assert "ermission denied" in said and "free some space" not in said


READ = f"""
    type: pipeline
    jobs:
      read: {{command: 'cat ${{{{inputs.d}}}}/*/x > ${{{{outputs.o}}}}', inputs: {{d: {{type: uri_folder, path: ./data}}}}, outputs: {{o: {{type: uri_file}}}}, {ENV}}}
    """  # noqa: E501


def test_a_changed_file_behind_a_linked_folder_is_noticed(project):
    project.write("read.yml", READ)
    project.write("real/x", "one")
    (project.root/"data").mkdir()
    (project.root/"data"/"sub").symlink_to(project.root/"real")
    project.run("read.yml")
    project.write("real/x", "two")
    assert Path(project.run("read.yml")["steps"][0]["outputs"]["o"]).read_text() == "two"


@pytest.mark.parametrize("place", ["data", "code"])
def test_a_broken_link_is_one_message_that_names_it(project, place):
    project.write("read.yml", READ.replace("read: {", "read: {code: code, "))
    project.write("data/sub/x", "one")
    project.write("code/a.py", "")
    (project.root/place/"broken").symlink_to("/nowhere/at/all")
    done = project.call("run", "read.yml")
    assert done.returncode == 0 or "broken" in one_message(done, done.returncode)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["with blank", "with <angle>", "with#hash", "star*", "til~de", "ünï"])
def test_a_project_in_an_awkward_folder(tmp_path, empty_store, name):
    project = Project(tmp_path/name, empty_store)
    project.write("job.yml", ONE)
    assert (Path(project.run("job.yml")["steps"][0]["outputs"]["o"])/"f").read_text() == "hi\n"


def test_a_folder_for_temporary_files_with_a_blank(tmp_path, empty_store):
    project = Project(tmp_path/"my project", empty_store)
    project.write("job.yml", ONE)
    (project.root/"tmp files").mkdir()
    done = project.call("run", "job.yml", TMPDIR=str(project.root/"tmp files"))
    assert done.returncode == 0 or "TMPDIR" in one_message(done)


def test_a_job_file_runs_in_the_workspace_of_its_own_project(project, tmp_path):
    project.write("sub/job.yml", ONE)
    elsewhere = tmp_path/"elsewhere"
    elsewhere.mkdir()
    done = subprocess.run([*CLI, "run", str(project.root/"sub"/"job.yml")], cwd=elsewhere, text=True,
                          capture_output=True)
    assert done.returncode == 0 and len(jobs(project)) == 1 and not any(elsewhere.iterdir())


@pytest.mark.skipif(
    shutil.which("git") is None or not (ROOT / ".git").exists(),
    reason="only git knows which files a clone would have: this copy is no clone, or git is missing",
)
def test_a_fresh_clone_passes_its_own_check(tmp_path):
    "`make test` checks before it makes the sample"
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                            text=True, capture_output=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if not (ROOT/name).exists(): continue
        (tmp_path/name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT/name, tmp_path/name)
    done = subprocess.run([*CLI, "check"], cwd=tmp_path, text=True, capture_output=True)
    assert ".mlops/sample" not in done.stdout, done.stdout


@pytest.mark.long
def test_a_folder_of_100_000_files_is_an_input_and_an_output_like_any_other(project):
    for name in range(100):
        folder = project.root/f"many/{name}"
        folder.mkdir(parents=True)
        for number in range(1000): (folder/f"{number}.txt").write_text(f"{name} {number}")
    ports = f"inputs: {{d: {{type: uri_folder}}}}, outputs: {{o: {{type: uri_folder}}}}, {ENV}"
    copy = f"{{command: 'cp -r ${{{{inputs.d}}}}/. ${{{{outputs.o}}}}', {ports}}}"
    count = f"{{command: 'find ${{{{inputs.d}}}} -type f | wc -l > ${{{{outputs.o}}}}/count', {ports}}}"
    project.write("many.yml", f"""
        type: pipeline
        inputs: {{many: {{type: uri_folder, path: many}}}}
        jobs:
          copied: {{type: command, component: {copy}, inputs: {{d: "${{{{parent.inputs.many}}}}"}}}}
          counted: {{type: command, component: {count}, inputs: {{d: "${{{{parent.jobs.copied.outputs.o}}}}"}}}}
        """)

    def run() -> dict:
        process = project.start("run", "many.yml", "--json")
        out, err = process.communicate()
        assert process.returncode == 0, err
        return json.loads(out)
    assert int(Path(steps(run())["counted"]["outputs"]["o"], "count").read_text()) == 100_000
    (project.root/"many/7/7.txt").write_text("changed")
    again = run()
    assert not any(step["reused_from"] for step in again["steps"])
    assert Path(steps(again)["copied"]["outputs"]["o"], "7/7.txt").read_text() == "changed"
    assert run()["id"] == again["id"], "nothing has changed, so nothing runs"
