"The control tower for a program, on paper, for a part of the past, and for several projects"
import json
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlops_nb.cli.main import main
from mlops_nb.serving.state import EMPTY_STATE
from mlops_nb.tower import export
from mlops_nb.tower.export import KEYS, find_browser, print_pdf
from mlops_nb.tower.facts import collect_facts
from mlops_nb.tower.page import build_page, read_span, write_tower

from tests.support.browser import browser_needed
from tests.tower.test_history import START, add_result, serve, stamp


def make(root: Path, model: str, hours: int = 48) -> Path:
    "A project with an endpoint, requests and results"
    (root / ".mlops/endpoints/flights").mkdir(parents=True)
    state = EMPTY_STATE | {"name": "flights"}
    (root / ".mlops/endpoints/flights/state.json").write_text(json.dumps(state))
    (root / "settings.ini").write_text(f"[project]\nexperiment = {model}\nmodel = {model}\n")
    for hour in range(hours): add_result(root, "hourly", hour, value=hour / 1000)
    for number in range(20): serve(root, number, status=429 if number == 3 else 200)
    return root


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    here = make(tmp_path / "here", "flights")
    monkeypatch.chdir(here)
    return here


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["tower", *words])
    return done.exit_code, done.output


def test_json_has_all_that_the_page_is_made_of(root):
    code, text = run("--json")
    [project] = json.loads(text)["projects"]
    assert code == 0 and [*project] == [*KEYS] and project["project"] == "flights"
    [day] = project["traffic"]["flights"]["days"]
    assert (day["requests"], day["refused"], day["errors"], day["load"]) == (20, 1, 0, 0.5)
    assert len(project["results"]) == 48 and project["results"][-1]["window"][1] == stamp(START + timedelta(hours=48))


@pytest.mark.parametrize("since, until, left", [
    ("2025-01-02", "", 24), ("", "2025-01-01T10:00:00Z", 10), ("2025-01-01T10:00:00Z", "2025-01-01T12:00:00Z", 2)])
def test_a_part_of_the_past(root, since, until, left):
    words = [word for name, time in (("--from", since), ("--to", until)) if time for word in (name, time)]
    [project] = json.loads(run("--json", *words)[1])["projects"]
    assert len(project["results"]) == left
    assert bool(project["traffic"]["flights"]["requests"]) == (since != "2025-01-02")
    page = build_page(collect_facts(root, read_span(since, until)), root)
    table = page.partition(" of psi of temp by window")[2].partition("</details>")[0]
    assert table.count('<th scope="row">') == left


@pytest.mark.parametrize("words, said", [
    (("--from", "soon"), "'soon' is not a time"),
    (("--from", "2025-02-01", "--to", "2025-01-01"), "nothing is between 2025-02-01 and 2025-01-01"),
    (("elsewhere",), "elsewhere is no project"),
])
def test_bad_input_writes_no_page(root, words, said):
    code, text = run(*words)
    assert code == 2 and said in text and not (root / ".mlops/tower").exists()


def test_several_projects_stand_on_one_page(root, tmp_path):
    make(tmp_path / "there", "prices", hours=3)
    page = tmp_path / "page.html"
    write_tower(root, page, others=str(tmp_path / "there"))
    text = page.read_text()
    assert text.index('id="overview"') < text.index('id="project"') < text.index('id="project-p2"')
    assert '<a href="#project-p2">prices</a>' in text and 'id="performance-p2"' in text and 'id="drift-p2"' in text
    ids = [part.partition('"')[0] for part in text.split(' id="')[1:]]
    assert len(ids) == len({*ids}) and text.count('id="range-all"') == 1
    listed = json.loads(run("--json", str(tmp_path / "there"))[1])["projects"]
    assert [project["project"] for project in listed] == ["flights", "prices"]


def test_without_a_browser_one_message_says_so_and_nothing_is_written(root, monkeypatch):
    monkeypatch.setattr(export.shutil, "which", lambda name: None)
    monkeypatch.setattr(export.find_browser, "__defaults__", (lambda name: None,))
    code, text = run("--pdf", "tower.pdf")
    assert code == 2 and "no Chromium is installed" in text and "fix:" in text
    assert not (root / "tower.pdf").exists() and not (root / ".mlops/tower").exists()


@browser_needed
def test_the_page_is_printed(root, tmp_path):
    write_tower(root, tmp_path / "page.html")
    print_pdf(tmp_path / "page.html", tmp_path / "made" / "tower.pdf", find_browser())
    pdf = (tmp_path / "made" / "tower.pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and pdf.rstrip().endswith(b"%%EOF") and len(pdf) > 10_000
