"What counts as success in a parallel step, as on Azure"
from pathlib import Path

import pytest

PARALLEL = """
    type: pipeline
    jobs:
      score:
        type: parallel
        mini_batch_size: "2"
        max_concurrency_per_instance: 1
        input_data: ${{inputs.data}}
        inputs: {data: {type: uri_folder, path: ./data}}
        outputs: {rows: {type: uri_file}}
        retry_settings: {max_retries: 0}
        LIMITS
        task:
          type: run_function
          code: src
          entry_script: score.py
          environment: {image: python}
          program_arguments: "ARGS"
          append_row_to: ${{outputs.rows}}
"""
FEWER = "def run(batch): return list(batch)[:1]\n"
RAISES = "def run(batch):\n    if any('3.txt' in path for path in batch): raise ValueError('bad file')\n" \
         "    return batch\n"


def run_parallel(project, script, limits="", arguments="", code=0, files=5):
    for number in range(files): project.write(f"data/{number}.txt", str(number))
    (project.root/"data").mkdir(exist_ok=True)
    project.write("src/score.py", script)
    project.write("parallel.yml", PARALLEL.replace("LIMITS", limits).replace("ARGS", arguments))
    return project.run("parallel.yml", code=code)["steps"][0]


@pytest.mark.parametrize("script, says", [
    ("def run(batch): print(batch)", "TypeError: run() returned NoneType; it must return a list"),
    ("def run(batch): return 5", "run() returned int"),
    ("def run(batch): return 'abc'", "run() returned str"),
    ("def run(batch): return {path: 1 for path in batch}", "run() returned dict"),
    ("def run(batch): return set(batch)", "run() returned set"),
    ("def run(batch):\n    for path in batch: yield path", "run() returned generator"),
    ("async def run(batch): return batch", "run() returned coroutine"),
    ("def run(batch): raise ValueError('no model')", "ValueError: no model"),
    ("def run(batch): return []", "nothing succeeded: 3 of 3 mini-batches failed"),
])
def test_a_parallel_step_in_which_nothing_succeeds_fails(project, script, says):
    error = run_parallel(project, script, code=1)["error"]
    assert "nothing succeeded: 3 of 3 mini-batches failed" in error and says in error


@pytest.mark.parametrize("script, limits, arguments, says", [
    (FEWER, "error_threshold: 1", "", "2 of 5 items failed; error_threshold is 1"),
    (FEWER, "error_threshold: 2", "", None),
    (FEWER, "mini_batch_error_threshold: 1", "", "2 of 3 mini-batches failed; mini_batch_error_threshold is 1"),
    (FEWER, "", "--error_threshold 0", "2 of 5 items failed; error_threshold is 0"),
    (FEWER, "", "--allowed_failed_percent 50", "2 of 3 mini-batches failed; allowed_failed_percent is 50"),
    (FEWER, "", "--allowed_failed_percent 70", None),
    (FEWER, "", "", None),
    (RAISES, "error_threshold: 1", "", "2 of 5 items failed; the first: ValueError: bad file; error_threshold is 1"),
    (RAISES, "error_threshold: 2", "", None),
    (RAISES, "", "--error_threshold many", "a threshold of the step is no number"),
])
def test_failed_items_count_as_on_azure(project, script, limits, arguments, says):
    step = run_parallel(project, script, limits, arguments, code=1 if says else 0)
    assert says in step["error"] if says else step["status"] == "Completed"


def test_a_parallel_step_without_input_says_so(project):
    assert "nothing to work on" in run_parallel(project, "def run(batch): return batch", code=1, files=0)["error"]


def test_a_table_without_rows_says_so(project):
    reading = "transformations: [{read_delimited: {delimiter: ','}}]"
    project.write("data/MLTable", f"paths: [{{file: ./rows.csv}}]\n{reading}\n")
    project.write("data/rows.csv", "a,b\n")
    assert "nothing to work on" in run_parallel(project, "def run(batch): return batch", code=1, files=0)["error"]


def test_a_mini_batch_of_nothing_is_refused(project):
    project.write("parallel.yml", PARALLEL.replace("LIMITS", "").replace('"2"', '"0"'))
    project.write("src/score.py", FEWER)
    project.write("data/0.txt", "0")
    refused = project.call("run", "parallel.yml")
    assert refused.returncode == 2 and "mini_batch_size is '0'" in refused.stderr


def test_the_entry_script_may_be_a_module_of_a_package(project):
    project.write("src/scoring/__init__.py", "")
    project.write("src/scoring/names.py", "from pathlib import Path\n\ndef read(path): return Path(path).stem\n")
    project.write("src/scoring/main.py", "from .names import read\n\ndef run(batch): return [read(p) for p in batch]\n")
    for number in range(3): project.write(f"data/{number}.txt", str(number))
    text = PARALLEL.replace("LIMITS", "").replace("ARGS", "").replace("score.py", "scoring.main")
    project.write("parallel.yml", text)
    step = project.run("parallel.yml")["steps"][0]
    assert step["status"] == "Completed", step
    assert Path(step["outputs"]["rows"]).read_text().split() == ["0", "1", "2"]
