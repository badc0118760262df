"`mlops-nb new`: a project of one's own, whose own commands pass untouched"
import json
import os
import random
import re
import subprocess
import tomllib
import urllib.request
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.support import BIN, ROOT, pipeline_checks, pipeline_files
from tests.support.projects import command, failures, make, turning, yields


@pytest.fixture(scope="module")
def harvest(tmp_path_factory):
    "A classification with a time column, from a CSV"
    folder = tmp_path_factory.mktemp("new")
    data = failures(folder / "failures.csv")
    said = command("new", "harvest", "--package", "harvest", "--data", data, "--target", "failed", "--time", "when",
                   cwd=folder).stdout
    return folder / "harvest", said


@pytest.fixture(scope="module")
def sugar(tmp_path_factory):
    "A regression without a time column, from Parquet"
    folder = tmp_path_factory.mktemp("new")
    data = yields(folder / "diabetes.parquet")
    said = command("new", "sugar", "--package", "sugar", "--data", data, "--target", "target", "--json",
                   cwd=folder).stdout
    return folder / "sugar", json.loads(said)


def source(notebook: Path) -> str:
    return "\n".join("".join(cell["source"]) for cell in json.loads(notebook.read_text())["cells"])


def test_new_says_what_it_assumed(harvest, sugar):
    assert "classification, because it is text with 2 values" in harvest[1]
    assert "left out: id is different in nearly every row" in harvest[1]
    assert "left out: unit has one value" in harvest[1]
    assert "splits by time, when" in harvest[1] and "on this machine only" in harvest[1]
    assert sugar[1]["task"] == "regression" and sugar[1]["time"] is None and len(sugar[1]["columns"]) == 10


def test_a_random_split_is_warned_of_in_prose_and_states_its_seed(harvest, sugar):
    warned = source(sugar[0] / "nbs/training/03_prepare.ipynb")
    assert "**A warning.**" in warned and "seed: Annotated[int" in warned
    assert "warning" not in source(harvest[0] / "nbs/training/03_prepare.ipynb").lower()


def test_nothing_of_the_template_or_of_the_example_is_left(harvest, sugar):
    for project in (harvest[0], sugar[0]):
        for path in (path for path in project.rglob("*") if ".mlops" not in path.parts):
            if path.is_file() and path.suffix in (".ipynb", ".py", ".yml", ".toml", ".ini", ".md", ".txt", ""):
                text = path.read_text()
                assert not re.search(r"<<[a-z_-]+>>|<<if-", text) and '"if-' not in text, path
                assert "flight" not in text.lower() and "carrier" not in text.lower(), path


def test_mlops_nb_is_a_dependency_and_a_version_can_be_named(harvest, tmp_path):
    project = tomllib.loads((harvest[0] / "pyproject.toml").read_text())["project"]
    assert "mlops-nb[job,serve]" in project["dependencies"][0]
    command("new", "plain", "--mlops-nb", "0.1.0", cwd=tmp_path)
    found = tomllib.loads((tmp_path / "plain/pyproject.toml").read_text())["project"]
    assert found["dependencies"] == ["mlops-nb[job,serve]==0.1.0"]
    assert found["optional-dependencies"]["loop"] == ["mlops-nb[loop]==0.1.0"]
    assert found["optional-dependencies"]["all"] == ["mlops-nb[all]==0.1.0"]


def test_the_package_is_called_as_the_folder_is(tmp_path):
    said = command("new", "Sugar Beet-2", cwd=tmp_path).stdout
    assert "package sugar_beet_2" in said and "next: cd 'Sugar Beet-2' && make loop" in said
    assert (tmp_path / "Sugar Beet-2/sugar_beet_2/__init__.py").is_file()
    for name in ("2027-harvest", "json"):
        assert "fix: name it: --package NAME" in command("new", name, cwd=tmp_path, code=2).stderr
        assert not (tmp_path / name).exists()


def test_the_image_of_a_project_serves_as_the_one_of_this_repository_does(harvest):
    there, here = (root / "pipelines/environment" for root in (harvest[0], ROOT))
    def routes(folder): return yaml.safe_load((folder / "environment.yml").read_text())["inference_config"]
    def starts(folder): return (folder / "Dockerfile").read_text().partition("\nCMD ")[2]
    assert routes(there) == routes(here) and starts(there) == starts(here) != ""
    assert "mlops-nb[job,serve]" in (there / "requirements.txt").read_text()


SHARED = [*(f"training/{name}" for name in ("04_train", "05_evaluate", "06_register")),
          *(f"deployment/{name}" for name in ("01_score", "02_qa", "03_split", "04_batch", "05_gather")),
          "monitoring/01_tower", "monitoring/02_replay"]


@pytest.mark.parametrize("name", SHARED)
def test_a_stage_of_a_project_is_that_of_the_example_but_for_the_name_of_the_package(harvest, sugar, name):
    for project in (harvest[0], sugar[0]):
        theirs = source(project / f"nbs/{name}.ipynb")
        renamed = re.sub(rf"\b{project.name}([./])(training|deployment|monitoring)\b", r"mlops_nb\1\2", theirs)
        assert renamed == source(ROOT / f"nbs/{name}.ipynb")


def test_a_project_has_all_four_folders_and_all_sections(harvest, sugar):
    for project in (harvest[0], sugar[0]):
        for file in ("training/sweep.yml", "deployment/rollout.yml", "deployment/staging.yml", "deployment/qa.yml",
                     "deployment/batch.yml", "deployment/kubernetes/deployment.yml", "monitoring/monitor.yml",
                     "monitoring/rollout.yml", "environment/roles.yml", "environment/workspace.yml"):
            assert (project / "pipelines" / file).is_file(), file
        assert {path.stem for path in (project / ".github/workflows").glob("*.yml")} == {
            "ci", "training", "deployment", "monitoring", "environment"}
        stated = {line for line in (project / "settings.ini").read_text().splitlines() if line.startswith("[")}
        assert stated == {line for line in (ROOT / "settings.ini").read_text().splitlines() if line.startswith("[")}
        assert "curl" in (project / "README.md").read_text()
    assert (harvest[0] / "pipelines/monitoring/retrain.yml").is_file()


def test_the_loop_tells_the_story_of_a_table_with_a_time(harvest):
    "Windows after the first training are replayed, outcomes come late, and the tower shows it"
    summary = json.loads(command("loop", "--json", cwd=harvest[0]).stdout)
    assert len(summary["windows"]) == 2 and summary["releases"] >= 1
    assert all(one["requests"] > 100 and one["performance"]["n"] > 100 for one in summary["windows"].values())
    assert Path(summary["tower"]).is_file() and "harvest" in Path(summary["tower"]).read_text()
    assert json.loads(command("loop", "--json", cwd=harvest[0]).stdout) == summary
    rows = [{"when": "2026-03-05T06:00:00Z", "site": "north", "load": 3.0},
            {"when": "2026-03-05T06:00", "site": "new", "load": None}]
    assert served(harvest[0], rows)[0]["probability"] > 0.7


def test_outcomes_are_in_the_words_of_the_data_and_others_are_refused(harvest):
    "After the loop: what it recorded, what the monitor compares with, and what a person reports"
    project = harvest[0]
    recorded = ".mlops/collected/harvest/outcomes/**/*.jsonl"
    kept = {json.loads(line)["data"][0]["value"] for path in project.glob(recorded) for line in path.open()}
    assert kept == {"no", "yes"} and "positive: \"yes\"" in (project / "pipelines/monitoring/monitor.yml").read_text()
    file = project.parent / "known.csv"
    file.write_text("request_id,value\na,yes\nb,NO\nc,1\nd,0\n")
    assert "4 outcomes recorded" in command("outcomes", "harvest", file, cwd=project).stdout
    named = {event["xrequestid"]: event["data"][0]["value"] for path in project.glob(recorded)
             for event in map(json.loads, path.open())}
    assert [named[id] for id in "abcd"] == ["yes", "no", "yes", "no"]
    file.write_text("request_id,value\ne,yes\nf,perhaps\n")
    said = command("outcomes", "harvest", file, cwd=project, code=2).stderr
    assert "outcome 1 has the value 'perhaps', which is no class of the model" in said and "no, yes" in said


@pytest.mark.long
def test_a_retraining_that_is_better_is_released(tmp_path):
    "The relation changes in the middle of the story: the loop retrains on the harm, and the new model takes over"
    data = turning(tmp_path / "turn.csv")
    command("new", "turn", "--package", "turn", "--data", data, "--target", "state", "--time", "when", cwd=tmp_path)
    settings = tmp_path / "turn/settings.ini"
    # A busy machine serves more of the next window with the old version, whose harm must not be another one's reason
    for name, days in {"refresh_days": 0, "cooldown_days": 40}.items():
        text, count = re.subn(rf"(?m)^{name} = \d+$", f"{name} = {days}", settings.read_text())
        assert count
        settings.write_text(text)
    summary = json.loads(command("loop", "--json", cwd=tmp_path / "turn", timeout=3600).stdout)
    assert summary["releases"] == 2 and summary["retrained"] == summary["refused"] + 1


@pytest.mark.long
def test_the_tests_of_a_classification_with_a_time_pass_untouched(harvest):
    assert "2 passed" in make(harvest[0], "test")


@pytest.mark.long
def test_the_tests_of_a_project_with_a_time_pass_in_an_environment_of_its_own(tmp_path):
    "The Makefile as it is: it makes .venv, resolves and installs all packages, and runs everything"
    data = failures(tmp_path / "failures.csv")
    command("new", "harvest", "--package", "harvest", "--data", data, "--target", "failed", "--time", "when",
            cwd=tmp_path)
    project = tmp_path / "harvest"
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(["make", "test"], cwd=project, env=env, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    assert "nothing is stale" in done.stdout and "2 passed" in done.stdout
    assert (project / ".venv/bin/mlops-nb").is_file() and (project / "requirements.lock").is_file()


def test_fresh_asks_before_anything_is_moved(harvest):
    project = harvest[0]
    before = {path.name for path in project.iterdir()}
    assert "mlops-nb loop --fresh --yes" in command("loop", "--fresh", cwd=project, code=2).stderr
    hidden = (project / "pipelines/monitoring/rollout.yml").rename(project / "rollout.yml")
    try: assert "the loop needs pipelines/monitoring/rollout.yml" in command("loop", "--fresh", "--yes", cwd=project,
                                                                             code=2).stderr
    finally: hidden.rename(project / "pipelines/monitoring/rollout.yml")
    assert {path.name for path in project.iterdir()} == before


def test_the_loop_of_a_table_without_a_time_starts_from_the_champion_that_is_there(sugar):
    "It trains, releases, serves a sample, monitors once; a champion that was trained before is no obstacle"
    command("run", "pipelines/training/pipeline.yml", cwd=sugar[0])
    summary = json.loads(command("loop", "--json", cwd=sugar[0]).stdout)
    assert [*summary["windows"]] == ["sample"] and summary["windows"]["sample"]["requests"] > 50
    assert Path(summary["tower"]).is_file()


def served(project: Path, rows: list) -> list:
    "Deploy the champion as the project's files say, ask it, stop it"
    try:
        command("deploy", cwd=project)
        found = json.loads(command("endpoint", "status", "harvest", "--json", cwd=project).stdout)[0]
        keys = json.loads(command("endpoint", "keys", "harvest", "--json", cwd=project).stdout)
        asked = urllib.request.Request(found["scoring_uri"], json.dumps({"input_data": rows}).encode(),
                                       {"Content-Type": "application/json",
                                        "Authorization": f"Bearer {keys['primary']}"})
        with urllib.request.urlopen(asked, timeout=60) as answer: said = json.loads(answer.read())
        return said
    finally:
        command("endpoint", "stop", "harvest", cwd=project)


@pytest.mark.long
def test_the_tests_of_a_regression_pass_untouched(sugar):
    said = make(sugar[0], "test")
    assert "nothing is stale" in said and "2 passed" in said
    verdict = json.loads((sugar[0] / ".mlops/sample/decision/verdict.json").read_text())
    # `make test` runs the stages twice: the sample registers version 1, and the same model again does not beat it
    assert verdict["opponent"] == "sugar version 1"
    assert {"loss difference upper bound", "calibration error"} <= {check["name"] for check in verdict["checks"]}


def test_a_project_has_a_site_whose_links_lead_somewhere(harvest):
    made = json.loads(command("docs", "--json", cwd=harvest[0]).stdout)
    assert made["pages"] >= 14 and (harvest[0] / "_docs/training/train.html").is_file()


def test_a_project_without_data_begins_with_a_stage_that_runs(tmp_path):
    command("new", "empty", "--package", "empty_one", cwd=tmp_path)
    assert "10 rows" in make(tmp_path / "empty", "loop")


@pytest.mark.parametrize("options, message", [
    (["--package", "My-Package"], "small letters"),
    (["--package", "p"], "3 to 32"),
    (["--package", "json"], "is taken"),
    (["--package", "lambda"], "is a word of Python"),
    (["--package", "pandas"], "installed package"),
    (["--package", "p", "--target", "x"], "--data FILE"),
    (["--package", "p", "--data", "failures.csv"],
     "no --target was given\n  accepted: a column: when, site, load, id, unit, failed"),
    (["--package", "p", "--data", "failures.csv", "--target", "broken"], "there is no such column"),
    (["--package", "p", "--data", "failures.csv", "--target", " Failed"], "fix: --target failed"),
    (["--package", "p", "--data", "failures.csv", "--target", "when"], "when is a time"),
    (["--package", "p", "--data", "failures.csv", "--target", "unit"], "unit is kW in every row that has one"),
    (["--package", "p", "--data", "failures.csv", "--target", "failed", "--time", "load"], "holds numbers"),
    (["--package", "p", "--data", "failures.csv", "--target", "failed", "--task", "regression"], "failed is text"),
    (["--package", "p", "--data", "nowhere.csv", "--target", "failed"], "there is no file"),
    (["--package", "p", "--mlops-nb", "nowhere.whl"], "a version such as"),
])
def test_mistakes_are_refused_and_nothing_is_written(tmp_path, options, message):
    failures(tmp_path / "failures.csv", rows=300)
    assert message in command("new", "p", *options, cwd=tmp_path, code=2).stderr
    assert [path.name for path in tmp_path.iterdir()] == ["failures.csv"]


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p/mine.txt").write_text("mine")
    assert "is not empty" in command("new", "p", "--package", "p", cwd=tmp_path, code=2).stderr
    assert [path.name for path in (tmp_path / "p").iterdir()] == ["mine.txt"]


def test_a_project_is_made_in_the_folder_that_one_stands_in(tmp_path):
    "An empty folder stays the one it was, for the shell that stands in it; so does one behind a link"
    here = tmp_path / "harvest"
    here.mkdir()
    (tmp_path / "link").symlink_to(here)
    inode = here.stat().st_ino
    said = command("new", ".", cwd=here).stdout
    assert "next: make loop" in said and here.stat().st_ino == inode and (here / "harvest/__init__.py").is_file()
    assert "is not empty" in command("new", "link", cwd=tmp_path, code=2).stderr
    assert {path.name for path in tmp_path.iterdir()} == {"harvest", "link"}


def test_what_a_killed_new_left_is_removed_and_what_a_running_one_writes_is_not(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    left, others = tmp_path / f".harvest.new-{ended.pid}", tmp_path / f".harvest.new-{os.getpid()}"
    for folder in (left, others): (folder / "data").mkdir(parents=True)
    command("new", "harvest", cwd=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"harvest", others.name}
    (tmp_path / "there" / f".new-{ended.pid}").mkdir(parents=True)
    command("new", "there", cwd=tmp_path)
    assert not [*(tmp_path / "there").glob(".new-*")]


def test_of_two_that_make_the_same_project_one_is_refused(tmp_path):
    words = [BIN / "mlops-nb", "new", "harvest"]
    both = [subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(2)]
    said = [one.communicate(timeout=300)[1] for one in both]
    assert sorted(one.returncode for one in both) == [0, 2], said
    assert any("is not empty" in text for text in said) and [path.name for path in tmp_path.iterdir()] == ["harvest"]


def test_a_file_whose_name_has_quotes_gets_a_plain_one_in_the_project(tmp_path):
    data = failures(tmp_path / "it's \"the # {one}: <<a>>.csv", rows=400)
    command("new", "p", "--package", "plain", "--data", data, "--target", "failed", cwd=tmp_path)
    assert (tmp_path / "p/data/it's _the _ _one__ __a__.csv").read_bytes() == data.read_bytes()
    pipeline = yaml.safe_load((tmp_path / "p/pipelines/training/pipeline.yml").read_text())
    assert pipeline["inputs"]["table"]["path"] == "../../data/it's _the _ _one__ __a__.csv"


@pytest.mark.parametrize("target, options, lines", [
    ("load", ["--time", "when"], ["regression: {rmse: ", "prediction: prediction"]),
    ("site", [], ["ml_task: classification"]),
])
def test_other_kinds_of_tables_make_projects_that_pass_every_check(tmp_path, target, options, lines):
    data = failures(tmp_path / "failures.csv")
    command("new", "p", "--package", "plain", "--data", data, "--target", target, *options, cwd=tmp_path)
    assert "nothing is stale" in command("check", cwd=tmp_path / "p").stdout
    monitor = (tmp_path / "p/pipelines/monitoring/monitor.yml").read_text()
    assert all(line in monitor for line in lines)
    assert ("prediction_drift" in monitor) == (target == "load")


def test_columns_that_are_called_as_those_of_the_machinery_are_left_out(tmp_path):
    table = pd.read_csv(failures(tmp_path / "failures.csv"))
    table = table.assign(**{"$time": table.load, "x_request_id": table.load * 2, "$price": table.load ** 2})
    table.to_csv(tmp_path / "t.csv", index=False)
    options = ["--package", "plain", "--data", tmp_path / "t.csv", "--target", "failed"]
    said = command("new", "p", *options, cwd=tmp_path).stdout
    assert "left out: $time is called as" in said and "left out: x_request_id is called as" in said
    assert "$price" in said.partition("features: ")[2].partition("\n")[0]
    assert "rename the column" in command("new", "q", *options, "--keep", "$time", cwd=tmp_path, code=2).stderr


def german(path: Path) -> Path:
    "A table of a German office"
    rows = [f"{day:02d}.{month:02d}.2026;{day},{month:02d};{'süd' if day % 3 else 'nord'};{day % 2}"
            for month in range(1, 13) for day in range(1, 29)]
    path.write_bytes("\n".join(["Tag;Größe;Ort;y", *rows]).encode("cp1252"))
    return path


def test_how_a_table_is_read_is_said_and_recorded(tmp_path):
    options = ["--data", german(tmp_path / "t.csv"), "--target", "y", "--time", "Tag", "--drop", "Ort"]
    said = command("new", "p", "--package", "plain", *options, cwd=tmp_path).stdout
    assert "read as ; separated, cp1252, decimal comma, dates day first" in said
    assert "left out: Ort as you said" in said
    ingest = source(tmp_path / "p/nbs/training/01_ingest.ipynb")
    assert "LAYOUT = Layout(encoding='cp1252', delimiter=';')" in ingest
    assert "'Größe': 'number 1.234,5'" in ingest and "TIME, TIME_KIND = 'Tag', 'time %d.%m.%Y'" in ingest


def test_what_gives_the_target_away_is_told_and_a_yes_is_recorded(tmp_path):
    table = pd.read_parquet(yields(tmp_path / "t.parquet"))
    table.assign(a=table.bmi * 2, total=table.bmi + table.bp).to_parquet(tmp_path / "t.parquet")
    options = ["--data", tmp_path / "t.parquet", "--target", "total"]
    assert "warning: bmi + bp give total as a sum" in command("new", "p", "--package", "plain", *options,
                                                              cwd=tmp_path).stdout
    kept = [word for name in ("a", "bmi", "bp") for word in ("--keep", name)]
    said = command("new", "q", "--package", "plain", *options, *kept, cwd=tmp_path).stdout
    assert "as a sum" not in said and "KEEP = ('a', 'bmi', 'bp')" in source(tmp_path / "q/nbs/training/01_ingest.ipynb")


@pytest.mark.long
def test_two_columns_that_determine_the_target_together_are_told_and_hold_the_model(tmp_path):
    rng = random.Random(0)
    rows = [(rng.choice("ab"), rng.choice("xy"), rng.random()) for _ in range(400)]
    text = "\n".join(f"{one},{other},{noise:.3f},{int((one == 'a') == (other == 'x'))}" for one, other, noise in rows)
    (tmp_path / "t.csv").write_text(f"sent,due,noise,paid\n{text}\n")
    options = ["--package", "plain", "--data", tmp_path / "t.csv", "--target", "paid"]
    said = command("new", "p", *options, cwd=tmp_path).stdout
    assert "warning: sent + due determine paid together" in said
    command("run", "pipelines/training/pipeline.yml", cwd=tmp_path / "p")
    verdict, = (tmp_path / "p/.mlops/jobs").glob("*/register/outputs/decision/verdict.json")
    reason = json.loads(verdict.read_text())["reason"]
    assert "suspiciously good" in reason and "sent + due determine paid together" in reason
    kept = command("new", "q", *options, "--keep", "sent", "--keep", "due", cwd=tmp_path).stdout
    assert "determine paid together" not in kept


@pytest.mark.long
def test_a_table_of_a_time_and_a_target_trains(tmp_path):
    hours = pd.date_range("2026-01-01", periods=400, freq="6h")
    rows = "\n".join(f"{hour:%Y-%m-%d %H:%M},{hour.hour + number % 5}" for number, hour in enumerate(hours))
    (tmp_path / "t.csv").write_text(f"# exported by hand\nwhen,load\n{rows}\n")
    options = ["--data", tmp_path / "t.csv", "--target", "load", "--time", "when"]
    said = command("new", "p", "--package", "plain", *options, cwd=tmp_path).stdout
    assert "features: when" in said and "read as , separated, utf-8, from line 2" in said
    assert "LAYOUT = Layout(skip=1)" in source(tmp_path / "p/nbs/training/01_ingest.ipynb")
    command("run", "pipelines/training/pipeline.yml", cwd=tmp_path / "p")
    metrics, = (tmp_path / "p/.mlops/jobs").glob("*/evaluate/outputs/evaluation/metrics.json")
    assert json.loads(metrics.read_text())["metrics"]["r2"] > .8


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda lines: [lines[0], *(["?" + line[10:] for line in lines[1:4]]), *lines[4:]],
            "no time that can be read in 3 of 336 rows: 1, 2, 3",
        ),
        (lambda lines: ["Tag;Größe;Tag;y", *lines[1:]], "2 columns are called Tag (columns 1, 3)"),
        (lambda lines: [], "is empty"),
        (lambda lines: lines[:1], "has no rows"),
        (
            lambda lines: [line.rpartition(";")[0] + (";y" if line is lines[0] else ";") for line in lines],
            "y has no value in 336 rows",
        ),
        (lambda lines: [lines[0], lines[1][:-1] + "9", *lines[2:]], "classes of which nothing can be learnt: 9 (1)"),
    ],
)
def test_bad_tables_are_one_message_and_leave_nothing(tmp_path, change, message):
    path = german(tmp_path / "t.csv")
    path.write_bytes("\n".join(change(path.read_text(encoding="cp1252").splitlines())).encode("cp1252"))
    options = ["--data", path, "--target", "y", "--time", "Tag"]
    told = command("new", "p", "--package", "plain", *options, cwd=tmp_path, code=2).stderr
    assert message in told and "Traceback" not in told
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_rows_without_a_time_may_be_left_out(tmp_path):
    path = german(tmp_path / "t.csv")
    path.write_text(path.read_text(encoding="cp1252").replace("01.01.2026", "?", 1), encoding="cp1252")
    options = ["--data", path, "--target", "y", "--time", "Tag", "--skip-untimed"]
    assert "1 row has no Tag, and is left out" in command("new", "p", "--package", "plain", *options,
                                                            cwd=tmp_path).stdout
    assert "SKIP_UNTIMED = True" in source(tmp_path / "p/nbs/training/01_ingest.ipynb")


@pytest.mark.parametrize("ci, folders", [("github", {".github"}), ("azure-devops", {".azure-pipelines"}),
                                         ("both", {".github", ".azure-pipelines"})])
def test_a_project_has_the_workflows_of_those_who_run_it(tmp_path, ci, folders):
    failures(tmp_path / "failures.csv", rows=400)
    command("new", "harvest", "--package", "harvest", "--data", "failures.csv", "--target", "failed", "--time", "when",
            "--ci", ci, cwd=tmp_path)
    project = tmp_path / "harvest"
    assert {path.name for path in project.iterdir()} & {".github", ".azure-pipelines"} == folders
    assert ("`.github/workflows`" in (project / "nbs/index.ipynb").read_text()) == (".github" in folders)
    if ".azure-pipelines" in folders:
        assert pipeline_files.names(project) == ["ci", "deployment", "environment", "monitoring", "training"]
        [found] = pipeline_checks.problems(project)
        assert found == "ci: test: 'git diff --exit-code' is not one make or mlops-nb command", "as at GitHub"
    assert command("upgrade", "--dry-run", cwd=project).stdout.startswith("everything is as the template")
