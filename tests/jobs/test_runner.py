"The local workspace, as a user meets it: the command line, real processes, real kills"
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.jobs import CLI, Project, steps, wait_for


def pid_of(project, step: str) -> int:
    "The process of a running step; the step may be quicker than the record of it"
    row = lambda: project.workspace.rows("SELECT pid FROM steps WHERE name = ?", step)[0]["pid"]
    wait_for(row)
    return row()


CHAIN = """
    type: pipeline
    display_name: chain
    inputs: {word: hello, seconds: 0}
    jobs:
      one:
        command: echo ${{inputs.word}} > ${{outputs.out}}/one.txt; echo one >> $RAN; sleep ${{inputs.seconds}}
        inputs: {word: "${{parent.inputs.word}}", seconds: "${{parent.inputs.seconds}}"}
        outputs: {out: {type: uri_folder}}
        environment: {image: python}
      two:
        command: sort ${{inputs.given}}/one.txt > ${{outputs.out}}/two.txt; echo two >> $RAN; sleep ${{inputs.seconds}}
        inputs: {given: "${{parent.jobs.one.outputs.out}}", seconds: "${{parent.inputs.seconds}}"}
        outputs: {out: {type: uri_folder}}
        environment: {image: python}
      three:
        command: cat ${{inputs.given}}/two.txt > ${{outputs.out}}; echo three >> $RAN; sleep ${{inputs.seconds}}
        inputs: {given: "${{parent.jobs.two.outputs.out}}", seconds: "${{parent.inputs.seconds}}"}
        outputs: {out: {type: uri_file}}
        environment: {image: python}
    """


@pytest.fixture
def chain(project):
    project.write("chain.yml", CHAIN)
    project.ran = project.root/"ran.txt"
    project.env = {"RAN": str(project.ran)}
    return project


def test_a_chain_runs_and_the_same_command_again_runs_nothing(chain):
    first = chain.run("chain.yml", **chain.env)
    assert [step["status"] for step in first["steps"]] == ["Completed"] * 3
    assert Path(steps(first)["three"]["outputs"]["out"]).read_text() == "hello\n"
    again = chain.run("chain.yml", **chain.env)
    assert (again["fresh"], again["id"]) == (False, first["id"])
    assert chain.ran.read_text().split() == ["one", "two", "three"]


def test_a_changed_value_runs_only_what_depends_on_it(chain):
    chain.write(
        "branch.yml",
        CHAIN.replace(
            '{given: "${{parent.jobs.one.outputs.out}}", seconds',
            '{given: "${{parent.jobs.one.outputs.out}}", word: "${{parent.inputs.word}}", seconds',
        ).replace('{word: "${{parent.inputs.word}}", seconds', "{word: constant, seconds", 1),
    )
    chain.run("branch.yml", **chain.env)
    job = chain.run("branch.yml", "--set", "inputs.word=other", **chain.env)
    assert {name: bool(step["reused_from"]) for name,
            step in steps(job).items()} == {"one": True, "two": False, "three": True}


def test_from_runs_a_step_and_its_followers_again(chain):
    chain.run("chain.yml", **chain.env)
    job = chain.run("chain.yml", "--from", "two", **chain.env)
    assert {name: bool(step["reused_from"]) for name,
            step in steps(job).items()} == {"one": True, "two": False, "three": False}


def test_a_result_that_was_tampered_with_is_not_reused(chain):
    first = chain.run("chain.yml", **chain.env)
    (Path(steps(first)["one"]["outputs"]["out"])/"one.txt").write_text("tampered")
    again = chain.run("chain.yml", **chain.env)
    assert Path(steps(again)["three"]["outputs"]["out"]).read_text() == "hello\n"
    assert chain.ran.read_text().split()[3] == "one"


def test_dry_run_says_what_would_run_and_runs_nothing(chain):
    done = chain.call("run", "chain.yml", "--dry-run", **chain.env)
    assert done.returncode == 0 and done.stdout.count("would run") == 3
    assert not chain.ran.exists() and not chain.workspace.rows("SELECT * FROM jobs")


@pytest.mark.parametrize("step", ["one", "two", "three"])
def test_kill_9_at_a_step_then_the_same_command_finishes_the_same_job(chain, step):
    words = ("run", "chain.yml", "--set", "inputs.seconds=1")
    runner = chain.start(*words, **chain.env)
    wait_for(lambda: chain.ran.exists() and step in chain.ran.read_text())
    pid = pid_of(chain, step)
    runner.kill()
    runner.wait()
    wait_for(lambda: not Path(f"/proc/{pid}").exists())
    before = json.loads(chain.call("show", "last", "--json").stdout)
    assert before["status"] == "Failed" and before["error"] == "its runner was killed"
    assert steps(before)[step]["status"] == "Failed"
    done = chain.run("chain.yml", "--set", "inputs.seconds=1", **chain.env)
    assert (done["id"], done["attempt"], done["status"]) == (before["id"], 2, "Completed")
    names = ["one", "two", "three"]
    assert chain.ran.read_text().split() == names[:names.index(step) + 1] + names[names.index(step):]
    prints = [row["outputs"] for row in chain.workspace.rows("SELECT outputs FROM results ORDER BY step")]
    clean = Project(chain.root.parent/"clean", chain.root/".mlops"/"mlflow.db")
    clean.write("chain.yml", CHAIN)
    clean.run("chain.yml", "--set", "inputs.seconds=1", RAN=str(clean.root/"ran.txt"))
    fresh = [row["outputs"] for row in clean.workspace.rows("SELECT outputs FROM results ORDER BY step")]
    assert [json.loads(one)["out"]["fingerprint"]
            for one in prints] == [json.loads(one)["out"]["fingerprint"] for one in fresh]


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_true_statuses_and_no_orphan(chain, number, code):
    runner = chain.start("run", "chain.yml", "--set", "inputs.seconds=60", **chain.env)
    wait_for(lambda: chain.ran.exists() and "one" in chain.ran.read_text())
    pid = pid_of(chain, "one")
    runner.send_signal(number)
    out, err = runner.communicate(timeout=20)
    assert runner.returncode == code, out + err
    assert [line.split()[2:4] for line in out.splitlines() if "stopping" in line] == [["one", "Running"]], out
    assert not Path(f"/proc/{pid}").exists() and "Traceback" not in err
    job = json.loads(chain.call("show", "last", "--json").stdout)
    assert (job["status"], [step["status"] for step in job["steps"]]) == (
        "Canceled",
        ["Canceled", "NotStarted", "NotStarted"],
    )


def test_cancel_from_another_terminal(chain):
    runner = chain.start("run", "chain.yml", "--set", "inputs.seconds=60", **chain.env)
    wait_for(lambda: chain.ran.exists() and "one" in chain.ran.read_text())
    assert chain.call("cancel", "last").returncode == 0
    runner.communicate(timeout=20)
    assert runner.returncode == 130
    assert json.loads(chain.call("show", "last", "--json").stdout)["status"] == "Canceled"
    assert chain.call("cancel", "last").returncode == 2


def test_the_launcher_killed_takes_the_step_with_it_and_the_job_says_so(chain):
    runner = chain.start("run", "chain.yml", "--set", "inputs.seconds=60", **chain.env)
    wait_for(lambda: chain.ran.exists() and "one" in chain.ran.read_text())
    pid = pid_of(chain, "one")
    os.kill(int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]), signal.SIGKILL)
    out, err = runner.communicate(timeout=30)
    assert runner.returncode == 1 and "launcher" in out + err and "Traceback" not in err
    wait_for(lambda: not Path(f"/proc/{pid}").exists())


def test_two_runs_at_once_in_one_workspace(chain):
    both = [chain.start("run", "chain.yml", "--set", "inputs.seconds=1", "--json", **chain.env) for _ in range(2)]
    jobs = [json.loads(process.communicate(timeout=60)[0]) for process in both]
    assert [job["status"] for job in jobs] == ["Completed"] * 2 and jobs[0]["id"] != jobs[1]["id"]
    assert all(Path(steps(job)["three"]["outputs"]["out"]).read_text() == "hello\n" for job in jobs)


def test_independent_steps_run_side_by_side(project):
    one = "{command: 'touch $MARKS/%s; while [ ! -e $MARKS/%s ]; do sleep 0.05; done', environment: {image: python}}"
    project.write("two.yml", f"type: pipeline\njobs:\n  a: {one % ('a', 'b')}\n  b: {one % ('b', 'a')}\n")
    project.run("two.yml", "--jobs", "2", MARKS=str(project.root))


def test_a_failing_step_is_explained_and_the_rest_does_not_start(project):
    project.write("bad.yml", """
        type: pipeline
        jobs:
          bad: {command: "echo about to fail; exit 7", outputs: {out: {type: uri_folder}}, environment: {image: python}}
          after: {command: "true", inputs: {x: "${{parent.jobs.bad.outputs.out}}"}, environment: {image: python}}
        """)
    done = project.call("run", "bad.yml")
    assert done.returncode == 1
    assert "exit code 7" in done.stderr and "about to fail" in done.stderr and "std_log.txt" in done.stderr
    job = json.loads(project.call("show", "last", "--json").stdout)
    assert {name: step["status"] for name, step in steps(job).items()} == {"bad": "Failed", "after": "NotStarted"}


def test_an_attempt_that_stops_earlier_tells_no_failure_of_the_one_before(project):
    project.write("word.txt", "fine for the first")
    project.write("two.yml", """
        type: pipeline
        inputs: {word: {type: uri_file, path: word.txt}}
        jobs:
          one:
            command: grep -q fine ${{inputs.word}} && cp ${{inputs.word}} ${{outputs.out}}/word
            inputs: {word: "${{parent.inputs.word}}"}
            outputs: {out: {type: uri_folder}}
            environment: {image: python}
          two:
            command: grep -q both ${{inputs.x}}/word
            inputs: {x: "${{parent.jobs.one.outputs.out}}"}
            environment: {image: python}
        """)
    first = project.call("run", "two.yml")
    assert first.returncode == 1 and "two failed" in first.stderr
    project.write("word.txt", "bad")
    second = project.call("run", "two.yml")
    assert second.returncode == 1 and "one failed" in second.stderr and "two failed" not in second.stderr
    job = json.loads(project.call("show", "last", "--json").stdout)
    assert {name: step["status"] for name, step in steps(job).items()} == {"one": "Failed", "two": "NotStarted"}
    assert job["attempt"] == 2 and steps(job)["two"]["error"] is None
    project.write("word.txt", "fine for both")
    assert project.call("run", "two.yml").returncode == 0


@pytest.mark.parametrize("go_on, status", [("true", "Completed"), ("false", "NotStarted")])
def test_continue_on_step_failure(project, go_on, status):
    project.write("go.yml", f"""
        type: pipeline
        settings: {{continue_on_step_failure: {go_on}}}
        jobs:
          bad: {{command: "exit 1", environment: {{image: python}}}}
          other: {{command: "true", environment: {{image: python}}}}
        """)
    assert steps(project.run("go.yml", "--jobs", "1", code=1))["other"]["status"] == status


def test_a_step_that_writes_to_its_input_fails(project):
    project.write("data/a.csv", "x\n1\n")
    project.write("touch.yml", """
        command: echo 2 >> ${{inputs.data}}/a.csv
        inputs: {data: {type: uri_folder, path: ./data}}
        environment: {image: python}
        """)
    job = project.run("touch.yml", code=1)
    assert "read-only input data" in job["steps"][0]["error"]


def test_a_file_output_that_is_not_written_fails_the_step(project):
    project.write("none.yml", "{command: 'true', outputs: {report: {type: uri_file}}, environment: {image: python}}")
    assert "without writing its output report" in project.run("none.yml", code=1)["steps"][0]["error"]


def test_the_environment_variables_of_azure_and_the_working_folder(project):
    project.write(
        "src/show.py",
        "import os, pathlib\nprint(os.environ['AZURE_ML_INPUT_data'])\nprint(sorted(p.name for p in "
        "pathlib.Path('.').iterdir()))\n",
    )
    project.write("src/.amlignore", "secret*\n")
    project.write("src/secret.txt", "no")
    project.write("data.txt", "x")
    project.write("env.yml", """
        command: python show.py; echo $GREETING; echo ${MLFLOW_RUN_ID:?} ${MLFLOW_TRACKING_URI:?} ${MLFLOW_EXPERIMENT_NAME:?} > /dev/null; ls -d $AZURE_ML_OUTPUT_out
        code: src
        environment_variables: {GREETING: "hi ${{inputs.name}}"}
        inputs: {data: {type: uri_file, path: data.txt}, name: Ada}
        outputs: {out: {type: uri_folder}}
        environment: {image: python}
        """)  # noqa: E501
    job = project.run("env.yml")
    lines = project.call("logs", job["id"], "job").stdout.splitlines()
    assert lines[0].endswith("data.txt") and lines[2] == "hi Ada" and lines[3].endswith("outputs/out")
    assert "show.py" in lines[1] and "secret" not in lines[1]


def test_a_project_whose_path_has_blanks(tmp_path, empty_store):
    project = Project(tmp_path/"my own project", empty_store)
    project.write("data dir/in put.txt", "3\n1\n")
    project.write("job.yml", """
        type: pipeline
        jobs:
          sort:
            command: sort ${{inputs.data}} > ${{outputs.out}}/sorted.txt
            inputs: {data: {type: uri_file, path: "data dir/in put.txt"}}
            outputs: {out: {type: uri_folder}}
            environment: {image: python}
          show:
            command: cat ${{inputs.data}}/sorted.txt
            inputs: {data: "${{parent.jobs.sort.outputs.out}}"}
            environment: {image: python}
        """)
    job = project.run("job.yml")
    assert project.call("logs", job["id"], "show").stdout == "1\n3\n"


def test_named_outputs_become_assets_and_latest_is_resolved_at_the_time_of_the_run(project):
    project.write("make.yml", """
        type: command
        command: echo ${{inputs.text}} > ${{outputs.out}}
        inputs: {text: first}
        outputs: {out: {type: uri_file, name: note}}
        environment: {image: python}
        """)
    project.write("use.yml", """
        type: pipeline
        jobs:
          use:
            command: cat ${{inputs.note}}
            inputs: {note: {type: uri_file, path: "azureml:note@latest"}}
            environment: {image: python}
        """)
    seen = []
    for text in ("first", "second"):
        project.run("make.yml", "--set", f"inputs.text={text}")
        job = project.run("use.yml")
        seen.append(project.call("logs", job["id"], "use").stdout.strip())
    assert seen == ["first", "second"]


def test_a_step_that_registers_says_all_of_it_in_its_last_line(project):
    project.write("two.yml", """
        type: pipeline
        jobs:
          make:
            command: echo 1 > ${{outputs.a}}/f; echo 2 > ${{outputs.b}}/f
            outputs: {a: {type: uri_folder, name: rows}, b: {type: uri_folder, name: marks}}
            environment: {image: python}
        """)
    done = project.call("run", "two.yml")
    assert done.returncode == 0, done.stderr
    completed = [line for line in done.stdout.splitlines() if " make Completed" in line]
    assert len(completed) == 1 and completed[0].endswith(" s data rows:1, data marks:1")


def test_an_output_path_in_a_datastore_is_written_there_and_read_back(project):
    project.write("store.yml", """
        type: pipeline
        jobs:
          put:
            command: echo stored > ${{outputs.out}}/file.txt
            outputs: {out: {type: uri_folder, path: "azureml://datastores/${{default_datastore}}/paths/kept/${{name}}"}}
            environment: {image: python}
        """)
    job = project.run("store.yml")
    assert (
        project.root / ".mlops" / "datastores" / "workspaceblobstore" / "kept" / job["id"] / "file.txt"
    ).read_text() == "stored\n"


def test_a_time_limit_ends_a_step(project):
    project.write("slow.yml", "{command: sleep 60, limits: {timeout: 1}, environment: {image: python}}")
    started = time.monotonic()
    assert "longer than 1 s" in project.run("slow.yml", code=1)["steps"][0]["error"]
    assert time.monotonic() - started < 30


def test_a_distributed_command_runs_once_for_each_process(project):
    project.write("ranks.yml", """
        command: echo $RANK of $WORLD_SIZE >> ${{outputs.out}}/ranks.txt
        outputs: {out: {type: uri_folder}}
        distribution: {type: pytorch, process_count_per_instance: 3}
        environment: {image: python}
        """)
    job = project.run("ranks.yml")
    assert sorted((Path(job["steps"][0]["outputs"]["out"]) / "ranks.txt").read_text().splitlines()) == [
        f"{rank} of 3" for rank in range(3)
    ]


SWEEP = """
    type: sweep
    trial:
      command: >-
        python -c "import mlflow, time; mlflow.log_metric('loss', (${{search_space.x}} - 3) ** 2); time.sleep(${{inputs.seconds}})";
        echo ${{search_space.x}} > ${{outputs.best}}/x; echo ${{search_space.x}} >> $RAN
      environment: {image: python}
    inputs: {seconds: 0}
    outputs: {best: {type: uri_folder}}
    search_space: {x: {type: choice, values: [1, 3, 5]}}
    sampling_algorithm: grid
    objective: {goal: minimize, primary_metric: loss}
    limits: {max_total_trials: 10, max_concurrent_trials: 2}
    """  # noqa: E501


def test_a_sweep_keeps_the_best_trial(project):
    project.write("sweep.yml", SWEEP)
    job = project.run("sweep.yml", RAN=str(project.root/"ran"))
    assert (Path(job["steps"][0]["outputs"]["best"])/"x").read_text().strip() == "3"
    assert sorted((project.root/"ran").read_text().split()) == ["1", "3", "5"]


def test_a_killed_sweep_goes_on_with_the_trials_that_are_missing(project):
    project.write("sweep.yml", SWEEP.replace("max_concurrent_trials: 2", "max_concurrent_trials: 1"))
    ran = project.root/"ran"
    runner = project.start("run", "sweep.yml", RAN=str(ran))
    wait_for(lambda: project.workspace.rows("SELECT 1 FROM jobs")
             and len(list(project.root.glob(".mlops/jobs/*/trial/trials/*"))) == 2, 60)
    runner.kill()
    runner.wait()
    ended = set(ran.read_text().split())
    job = project.run("sweep.yml", RAN=str(ran))
    assert job["attempt"] == 2 and (Path(job["steps"][0]["outputs"]["best"])/"x").read_text().strip() == "3"
    assert all(ran.read_text().split().count(value) == 1 for value in ended) and set(ran.read_text().split()) == {
        "1",
        "3",
        "5",
    }


def test_early_termination_stops_a_bad_trial(project):
    project.write("train.py", """
        import sys, time, mlflow
        for epoch in range(40):
            mlflow.log_metric("accuracy", float(sys.argv[1]), step=epoch)
            time.sleep(0.5 if float(sys.argv[1]) < 0.5 else 0)
        """)
    project.write("sweep.yml", """
        type: sweep
        trial: {code: ., command: "python train.py ${{search_space.level}}", environment: {image: python}}
        search_space: {level: {type: choice, values: [0.9, 0.1]}}
        sampling_algorithm: grid
        objective: {goal: maximize, primary_metric: accuracy}
        limits: {max_total_trials: 2, max_concurrent_trials: 1}
        early_termination: {type: bandit, slack_factor: 0.1, evaluation_interval: 2, delay_evaluation: 2}
        """)
    job = project.run("sweep.yml")
    trials = [
        json.loads(line)
        for line in next(project.root.glob(".mlops/jobs/*/trial/trials.jsonl")).read_text().splitlines()[1:]
    ]
    assert {trial["values"]["level"]: trial["state"] for trial in trials} == {
        "0.9": "Completed",
        "0.1": "Stopped",
    } and job["status"] == "Completed"


def test_a_parallel_step_works_through_mini_batches_and_appends_in_order(project):
    for number in range(7): project.write(f"data/{number}.txt", str(number))
    project.write("src/score.py", """
        import argparse, os
        def init():
            parser = argparse.ArgumentParser()
            parser.add_argument("--add", type=int)
            global add
            add = parser.parse_known_args()[0].add
        def run(batch): return [f"{os.path.basename(path)} {int(open(path).read()) + add}" for path in batch]
        """)
    project.write("parallel.yml", """
        type: pipeline
        jobs:
          score:
            type: parallel
            mini_batch_size: "2"
            max_concurrency_per_instance: 2
            input_data: ${{inputs.data}}
            inputs: {data: {type: uri_folder, path: ./data}, add: 10}
            outputs: {rows: {type: uri_file}}
            mini_batch_error_threshold: 0
            task:
              type: run_function
              code: src
              entry_script: score.py
              environment: {image: python}
              program_arguments: --add ${{inputs.add}}
              append_row_to: ${{outputs.rows}}
        """)
    job = project.run("parallel.yml")
    assert Path(job["steps"][0]["outputs"]["rows"]).read_text().splitlines() == [f"{n}.txt {n + 10}" for n in range(7)]


def test_a_failing_mini_batch_fails_the_step_beyond_its_threshold(project):
    for number in range(4): project.write(f"data/{number}.txt", str(number))
    project.write(
        "src/score.py",
        "def run(batch):\n    if '2.txt' in batch[0]: raise ValueError('two is bad')\n    return batch\n",
    )
    project.write("parallel.yml", """
        type: pipeline
        jobs:
          score:
            type: parallel
            mini_batch_size: "1"
            input_data: ${{inputs.data}}
            inputs: {data: {type: uri_folder, path: ./data}}
            outputs: {rows: {type: uri_file}}
            mini_batch_error_threshold: 0
            retry_settings: {max_retries: 1}
            task: {type: run_function, code: src, entry_script: score.py, environment: {image: python}, append_row_to: "${{outputs.rows}}"}
        """)  # noqa: E501
    assert (
        "1 of 4 mini-batches failed; the first: ValueError: two is bad"
        in project.run("parallel.yml", code=1)["steps"][0]["error"]
    )


@pytest.mark.parametrize(
    "text, said",
    [
        ("type: pipeline\njobs:\n\ta: {}\n", "tab"),
        (
            "type: pipeline\njobs:\n  a: {command: x, environment: {image: p}}\n  a: {command: y, environment: "
            "{image: p}}\n",
            "a",
        ),
        (
            "type: pipeline\njobs:\n  a: {command: 'x ${{inputs.d}}', inputs: {d: '${{parent.jobs.b.outputs.o}}'}, "
            "outputs: {o: {type: uri_folder}}, environment: {image: p}}\n"
            "  b: {command: 'x ${{inputs.d}}', inputs: {d: '${{parent.jobs.a.outputs.o}}'}, outputs: {o: {type: "
            "uri_folder}}, environment: {image: p}}\n",
            "cycle",
        ),
        (
            "command: cat ${{inputs.d}}\ninputs: {d: {type: uri_file, path: ./absent.csv}}\nenvironment: {image: p}\n",
            "absent.csv",
        ),
    ],
)
def test_bad_files_are_refused_before_anything_is_written(tmp_path, text, said):
    (tmp_path/"job.yml").write_text(text)
    done = subprocess.run([*CLI, "run", "job.yml"], cwd=tmp_path, text=True, capture_output=True)
    assert done.returncode == 2 and "job.yml:" in done.stderr and said in done.stderr and "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["job.yml"]


@pytest.mark.parametrize(
    "words, said",
    [
        (["--set", "inputs.nothing=1"], "nothing"),
        (["--set", "word=1"], "--set inputs.NAME=VALUE"),
        (["--from", "four"], "one, two, three"),
    ],
)
def test_bad_options_are_refused(chain, words, said):
    done = chain.call("run", "chain.yml", *words, **chain.env)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_a_full_disk_is_one_message_and_a_second_run_finishes(chain):
    limited = f"ulimit -f 0; exec {' '.join(CLI[:1])} -c 'from mlops_nb.cli.main import main; main()' run chain.yml"
    done = subprocess.run(["bash", "-c", limited], cwd=chain.root, env={**os.environ, **chain.env}, text=True,
                          capture_output=True)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert chain.run("chain.yml", **chain.env)["status"] == "Completed"
