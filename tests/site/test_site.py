"The docs site: built from the notebooks, and read in a browser as a newcomer would"
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import tomllib
import urllib.request
from functools import partial
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mlops_nb.processes import find_marked
from mlops_nb.site.links import SiteMap, site_problems

from tests.support import ROOT
from tests.support.browser import browser_needed
from tests.support.notebooks import code, text, write_notebook
from tests.support.terminal import run_in_terminal

ENV = {k: v for k, v in os.environ.items() if k != "IN_TEST"}
HITS = "a[role=option]"  # What the search lists, in a shadow tree that Playwright sees through
MLOPS_NB = Path(sys.executable).with_name("mlops-nb")

# What a newcomer types into the search, and the page that comes first.
QUESTIONS = {
    "retrain": "howto/retrain.html", "predict": "howto/predict.html", "upgrade": "howto/upgrade.html",
    "cost": "howto/cost.html", "GPU": "howto/gpu_and_large_data.html", "large data": "howto/gpu_and_large_data.html",
    "curl": "howto/predict.html", "exit code": "howto/runs.html", "disk": "howto/keep_it_running.html",
    "own data": "tutorials/your_own_data.html", "first hour": "tutorials/first_hour.html",
    "write a stage": "tutorials/write_a_stage.html", "monitor": "tutorials/predict_and_monitor.html",
    "rollback": "tutorials/release_day.html", "go to Azure": "tutorials/go_to_azure.html",
    "PyTorch": "tutorials/another_framework.html", "gate": "overview/gate.html", "canary": "overview/canary.html",
    "drift": "overview/drift.html", "architecture": "overview/architecture.html", "glossary": "glossary.html",
    "settings": "reference/settings.html", "commands": "reference/commands.html", "YAML": "reference/yaml.html",
    "events": "reference/events.html", "metrics": "reference/metrics.html",
    "population stability index": "reference/metrics.html", "ZenML": "why.html", "benchmarks": "benchmarks.html"}
HELPERS = {"bend_arrow": "api/notebooks/diagrams.html", "read_releases": "api/tower/facts.html"}


def test_the_page_of_benchmarks_shows_what_was_measured_last():
    cells = json.loads((ROOT / "nbs/docs/benchmarks.ipynb").read_text(encoding="utf-8"))["cells"]
    outputs = [output["data"] for cell in cells for output in cell.get("outputs", ())]
    shown = [(kind, "".join(lines)) for data in outputs for kind, lines in data.items()]
    results = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "bench/results").iterdir()}
    pictures, text_of = [picture.strip() for kind, picture in shown if kind == "image/svg+xml"], dict(shown)
    fix = "nbdev-test nbs/docs/benchmarks.ipynb --save && nbdev-clean"
    assert pictures == [results["pipeline.svg"].strip()], fix
    for name, result in results.items():
        if not name.endswith(".md") or name == "pipeline.md": continue
        assert result.partition("\n")[2].strip() in text_of["text/markdown"], f"{name}: {fix}"


def run(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run([MLOPS_NB, *words], cwd=folder, env=ENV | environment, text=True, capture_output=True)


@pytest.fixture(scope="module")
def site():
    "The site of this repository"
    done = run(ROOT, "docs", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return ROOT/json.loads(done.stdout)["folder"]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_): pass


@pytest.fixture(scope="module")
def address(site):
    "Where it is served"
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def small(tmp_path):
    "A project of two notebooks"
    project = tmp_path/"my project"
    write_notebook(project/"nbs"/"index.ipynb", text("# Home\n\n> Where it begins"),
                   text("See [the other](sub/01_other.ipynb#deeper)."))
    write_notebook(project/"nbs"/"sub"/"01_other.ipynb",
                   text("# Other\n\n> More\n\nKept. $x^2$"), code("#| default_exp sub.other"),
                   code("#| export\ndef double(\n    x: int,  # What is doubled\n): return 2*x"),
                   code("#| hide\nsecret = 1"), text("## Deeper\n\nCalls `double`."))
    (project/"settings.ini").write_text("[project]\nexperiment = small\nmodel = small\npackage = small\n")
    (project/"pyproject.toml").write_text('[project]\nname = "small"\nversion = "0.1"\n[tool.nbdev]\nnbs_path = "nbs"\n'
                                          'lib_path = "small"\nupdate_pyproject = false\n')
    (project/"small").mkdir()
    (project/"small"/"__init__.py").write_text('__version__ = "0.1"\n')
    assert run(project, "export").returncode == 0
    return project


def change(path: Path, old: str, new: str):
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_a_small_project_has_a_site_and_a_broken_link_does_not_replace_it(small):
    done = run(small, "docs")
    assert done.returncode == 0, done.stdout + done.stderr
    page = (small/"_docs"/"sub"/"other.html").read_text()
    assert all(found in page for found in ('id="double"', "What is doubled", "<msup>", "Kept."))
    assert "secret" not in page
    change(small/"nbs"/"index.ipynb", "#deeper", "#nowhere")
    broken = run(small, "docs")
    assert broken.returncode == 2
    assert "nbs/index.ipynb:cell 2 links to sub/01_other.ipynb#nowhere, and there is no such heading" in broken.stderr
    assert "#deeper" in (small/"_docs"/"index.html").read_text()


@pytest.mark.parametrize("stop_at", ["looking for what has changed", "prepared 0 of 2", "making the site\r\n"])
def test_ctrl_c_while_a_site_is_made_is_one_line_and_leaves_nothing(small, stop_at):
    mark = f"SITE_OF={os.urandom(8).hex()}"
    code, said = run_in_terminal(small, "docs", stop_at=stop_at, SITE_OF=mark.partition("=")[2])
    assert code == 130 and said.endswith("stopped by Ctrl-C\n") and "Traceback" not in said
    assert not find_marked(mark) and not (small/"_docs").exists()


def test_a_page_does_not_tell_the_environment_of_who_builds_it(small, monkeypatch):
    change(small/"nbs"/"sub"/"01_other.ipynb", "x: int,  # What is doubled",
           "x: int,  # What is doubled\\n    env: dict = os.environ,  # Of the process")
    change(small/"nbs"/"sub"/"01_other.ipynb", "#| export\\ndef", "#| export\\nimport os\\n\\ndef")
    monkeypatch.setitem(ENV, "A_TOKEN", "tell-nobody")
    for words in (("export",), ("docs",)):
        done = run(small, *words)
        assert done.returncode == 0, done.stdout + done.stderr
    page = (small/"_docs"/"sub"/"other.html").read_text()
    assert "os.environ" in re.sub("<[^>]*>", "", page) and "tell-nobody" not in page


def test_what_zensical_lets_pass_is_found(tmp_path):
    (tmp_path/"a.html").write_text('<a href="b.html">gone</a><img src="https://example.com/x.png"><a href="#no">no</a>')
    (tmp_path/"a.css").write_text("@import url('https://fonts.example.com/a');")
    assert len(site_problems(tmp_path, SiteMap(tmp_path, {}))) == 4


def test_a_served_site_follows_the_notebooks(small):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [MLOPS_NB, "docs", "--serve", "--port", str(port)]
    server = subprocess.Popen(command, cwd=small, env=ENV, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout.readline().startswith("http")
        wait_for(f"http://127.0.0.1:{port}/index.html", "Where it begins")
        change(small/"nbs"/"index.ipynb", "Where it begins", "Where it has changed")
        wait_for(f"http://127.0.0.1:{port}/index.html", "Where it has changed")
    finally:
        server.terminate()
        server.wait(30)
    with pytest.raises(OSError): urllib.request.urlopen(f"http://127.0.0.1:{port}/index.html")


def wait_for(address: str, words: str):
    "Until a page has these words; fails after two minutes"
    end, page = time.monotonic() + 120, ""
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(address) as answer: page = answer.read().decode()
        except OSError: page = ""
        if words in page: return
        time.sleep(0.3)
    pytest.fail(f"{address} never said {words!r}; it said {page[:500]!r}")


def pages_of(site: Path) -> list[str]:
    "Every page that was made here; the gallery's were made by runs"
    names = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))
    return [name for name in names if not name.startswith(("gallery/", "404"))]


def test_a_class_is_shown_with_its_fields_and_never_as_a_function(site):
    pages = {name: re.sub("<[^>]*>", "", (site/name).read_text()) for name in pages_of(site) if name.startswith("api/")}
    assert [name for name, page in pages.items() if re.search(r"^def [A-Z]\w+\($", page, re.M)] == []
    table = re.search(r'id="jobdescription".*?<table>(.*?)</table>', (site/"api/jobs/report.html").read_text(), re.S)[1]
    row = [unescape(re.sub("<[^>]*>", "", cell)) for cell in re.findall(r"<td>(.*?)</td>", table, re.S)]
    assert row[row.index("created"):][:3] == ["created", "str | None", "ISO 8601, local"]


def test_names_stand_in_the_order_of_the_notebook_with_their_constants_and_their_own_source(site):
    page = (site/"api/jobs/launcher.html").read_text()
    names = re.findall(r'<h3 id="(\w+)"', page)
    assert names.index("idle_seconds") < names.index("launcher_name") < names.index("choose_stay")
    fences = re.findall(r"<pre><span></span><code>(.*?)</code></pre>", page, re.S)
    blocks = [unescape(re.sub("<[^>]*>", "", fence)) for fence in fences]
    assert any(re.search("^IDLE = 300.0 +# Seconds", block) and "def " not in block for block in blocks)
    source, = (block for block in blocks if "def choose_stay() ->" in block and "own_folder()" in block)
    assert "launcher_name() if seconds" in source and "def launcher_name" not in source


def test_a_page_that_a_failed_build_has_begun_is_not_taken_for_the_one_before(small):
    home = small/"nbs"/"index.ipynb"
    write_notebook(small/"nbs"/"z_last.ipynb", text("# Last"), code("#| default_exp last"), code("#| export\nx = 1"))
    assert run(small, "docs").returncode == 0
    change(home, "See [", "Tried [")
    change(small/"nbs"/"z_last.ipynb", "x = 1", "x = = 1")
    failed = run(small, "docs")
    assert failed.returncode == 2 and "an exported cell is not Python" in failed.stderr
    change(home, "Tried [", "See [")
    change(small/"nbs"/"z_last.ipynb", "x = = 1", "x = 1")
    assert run(small, "docs").returncode == 0
    page = (small/"_docs"/"index.html").read_text()
    assert "See <a" in page and "Tried" not in page


def test_nbdevs_ways_to_document_a_name_are_known_and_no_exported_cell_runs(small):
    write_notebook(small/"nbs"/"02_box.ipynb", text("# Box\n\n> Its parts"), code("#| default_exp box"),
                   code("#| export\nclass Box:\n    def area(self) -> int:\n        'Measure it'\n        return 1"),
                   code("#| export\n@patch\ndef grow(self: Box, by: int = STEP): 'Let it grow'\nraise SystemExit(1)"),
                   code("#| export\n@patch\ndef fill(self: Path): ...\n"), text("See `Path.fill` and `Box.grow`."),
                   text("## One method"), code("show_doc(Box.area)"),
                   text("## From elsewhere"), code("import fractions"), code("show_doc(fractions.gcd)"))
    ran = run(small, "docs")   # by nbdev, for the sake of the last one
    assert ran.returncode == 1 and "name 'patch' is not defined" in ran.stderr
    change(small/"nbs"/"02_box.ipynb", "show_doc(fractions.gcd)", "1")
    done = run(small, "docs")
    assert done.returncode == 0, done.stdout + done.stderr
    page = (small/"_docs"/"box.html").read_text()
    assert 'href="#path.fill"' in page and 'id="path.fill"' in page
    page = unescape(re.sub("<[^>]*>", "", page))
    assert "def grow(self: Box, by: int = STEP):" in page and "Box.grow" in page
    assert page.index("One method") < page.rindex("Box.area") and "Measure it" in page[page.rindex("Box.area"):]


WIDTHS = (390, 800, 1280)  # Pixels of a phone, a tablet and a laptop


def look_at_pages(names: list[str], address: str, browser) -> list[str]:
    "What is wrong with pages: errors of the console, other hosts, too wide for a phone, a tablet or a laptop"
    page, problems = browser.new_page(viewport={"width": 390, "height": 844}), []
    page.on("console", lambda said: problems.append(f"{page.url}: {said.text}") if said.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(f"{page.url}: {error}"))
    def look_at(request):
        if not request.url.startswith((address, "data:", "blob:")): problems.append(f"{page.url} asks {request.url}")
    page.on("request", look_at)
    for name in names:
        page.goto(address + name, wait_until="load")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 844})
            if page.evaluate("document.documentElement.scrollWidth > innerWidth"): problems.append(f"{name} at {width}")
    page.close()
    return problems


@browser_needed
def test_the_pages_for_readers_fit_a_phone_and_ask_nobody_else(site, address, browser):
    names = [name for name in pages_of(site) if not name.startswith("api/")]
    assert len(names) > 20 and look_at_pages(names, address, browser) == []


@pytest.mark.long
@browser_needed
def test_every_page_of_the_machinery_fits_a_phone_and_asks_nobody_else(site, address, browser):
    names = [name for name in pages_of(site) if name.startswith("api/")]
    assert len(names) > 100 and look_at_pages(names, address, browser) == []


PICTURES = ("overview/architecture", "overview/environment", "overview/training", "overview/deployment",
            "overview/monitoring", "gallery")     # Pages whose pictures are drawn from text


@browser_needed
def test_pictures_fit_on_paper_with_their_words(address, browser):
    page = browser.new_page(viewport={"width": 800, "height": 1100})      # A4, upright
    page.emulate_media(media="print")
    for name in PICTURES:
        page.goto(f"{address}{name}.html", wait_until="load")
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), name
        shown = page.evaluate("""() => [...document.querySelectorAll('.diagram svg')].filter(
            picture => getComputedStyle(picture).display !== 'none'
        ).map(picture => picture.getBoundingClientRect().right)""")
        assert shown and max(shown) <= 800, name
    page.close()


@browser_needed
def test_nothing_of_tutorials_and_howtos_is_cut_off(site, address, browser):
    page, problems = browser.new_page(), []
    names = [name for name in pages_of(site) if name.startswith(("tutorials/", "howto/"))]
    for name in names:
        page.goto(address + name, wait_until="load")
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 844})
            problems += [f"{name} at {width}: {text[:60]}" for text in page.evaluate("""() => [
                ...document.querySelectorAll('pre > code, .md-typeset__table')].filter(
                    box => (innerWidth > 700 || !box.closest('.output')) && box.scrollWidth > box.clientWidth + 1
                ).map(box => box.textContent)""")]
    page.close()
    assert len(names) > 20 and problems == []


@browser_needed
def test_the_keys_of_a_table_stay_whole_on_a_phone(address, browser):
    page, broken = browser.new_page(viewport={"width": 390, "height": 844}), []
    for name in ("reference/settings", "reference/commands", "reference/yaml", "reference/stages"):
        page.goto(f"{address}{name}.html", wait_until="load")
        broken += page.evaluate("""() => [...document.querySelectorAll('td:first-child > code')].filter(
            key => key.textContent.length < 20 && key.getBoundingClientRect().height > 30
        ).map(key => key.textContent)""")
    page.close()
    assert broken == []


@browser_needed
def test_the_tables_of_settings_fit_a_phone_and_their_words_stay_whole(address, browser):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(f"{address}reference/settings.html", wait_until="load")
    tables = page.evaluate("""() => [...document.querySelectorAll('.md-typeset__scrollwrap')].map(
        table => [table.scrollWidth, table.clientWidth])""")
    broken = page.evaluate("""() => [...document.querySelectorAll('td > code')].filter(
        code => /^[\\w.-]{1,14}$/.test(code.textContent) && code.getBoundingClientRect().height > 30
    ).map(code => code.textContent)""")
    page.close()
    assert len(tables) > 5 and [one for one in tables if one[0] > one[1]] == [] and broken == []


@browser_needed
def test_the_words_of_pictures_can_be_read_on_a_phone(address, browser):
    page, small = browser.new_page(viewport={"width": 390, "height": 844}), {}
    for name in (*PICTURES, "index", "start", "overview/gate", "overview/drift"):
        page.goto(f"{address}{name}.html", wait_until="load")
        small[name] = page.evaluate("""() => [...document.querySelectorAll('.diagram svg')].filter(
            picture => getComputedStyle(picture).display !== 'none').flatMap(picture => {
            const shown = picture.getBoundingClientRect().width / picture.viewBox.baseVal.width;
            const texts = [...picture.querySelectorAll('text')];
            return texts.map(text => shown * parseFloat(getComputedStyle(text).fontSize));
        }).filter(size => size < 9)""")
    page.close()
    assert {name: sizes for name, sizes in small.items() if sizes} == {}


def test_an_address_that_leads_nowhere_says_where_to_go_on(site):
    page = re.sub(r"\s+", " ", (site/"404.html").read_text())
    assert "There is no such page" in page and re.search(r'begin at <a href="[^"]*index.html">the first page</a>', page)


class Below(Quiet):
    "A web server that shows 404.html of a site in a folder, at its own address, as GitHub Pages does"
    def send_error(self, code, message=None, explain=None):
        self.send_response(code, message)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write((Path(self.directory)/"flights"/"404.html").read_bytes())


@browser_needed
def test_below_a_folder_a_miss_shows_a_page_of_the_site(small, browser, tmp_path):
    done = run(small, "docs", MLOPS_NB_SITE="https://octo.github.io/flights")
    assert done.returncode == 0, done.stdout + done.stderr
    (small/"_docs").rename(tmp_path/"flights")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Below, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page, missed = browser.new_page(), []
        page.on("response", lambda answer: missed.append(answer.url) if answer.status >= 400 else None)
        asked = f"http://127.0.0.1:{server.server_port}/flights/sub/deep/nowhere.html"
        page.goto(asked, wait_until="load")
        assert missed == [asked] and page.inner_text("h1") == "There is no such page"
        assert page.evaluate("document.styleSheets.length") > 2
        page.click("text=the first page")
        page.wait_for_url("**/flights/index.html")
        page.close()
        server.shutdown()


def test_an_address_that_is_none_is_refused(small):
    done = run(small, "docs", MLOPS_NB_SITE="flights")
    assert done.returncode == 2 and not (small/"_docs").exists()
    assert done.stderr.startswith("error: MLOPS_NB_SITE is 'flights'\n  accepted: the address of the site")


def test_a_page_of_results_shows_tables_with_one_row_of_headings_and_no_code(site):
    page = (site/"benchmarks.html").read_text()
    heads = re.findall(r"<thead>(.*?)</thead>", page, re.S)
    assert len(heads) > 3 and all(head.count("<tr") == 1 for head in heads)
    assert "<th>met</th>" in page.replace(' class="words"', "") and "import json" not in page


@browser_needed
def test_no_serious_finding_of_axe(address, browser):
    from axe_playwright_python.sync_playwright import Axe
    found = []
    for scheme, width in (("light", 1280), ("dark", 390)):
        page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
        for name in ("index", "start", "glossary", "overview/drift", "tutorials/first_hour", "howto/predict",
                     "reference/settings", "reference/metrics", "training/explore", "api/models/gate", *PICTURES):
            page.goto(f"{address}{name}.html", wait_until="load")
            for v in Axe().run(page).response["violations"]:
                where = f"{scheme} {name}: {v['id']}: {v['nodes'][0]['html'][:200]}"
                if v["impact"] in ("serious", "critical"): found.append(where)
        page.close()
    assert found == []


@browser_needed
def test_tabs_lead_to_sections_and_links_to_pages(address, browser):
    page = browser.new_page()
    page.goto(address)
    page.click("nav.md-tabs >> text=Concepts")
    page.wait_for_url("**/overview/architecture.html")
    page.click(".diagram a[href$='training.html']")
    page.wait_for_url("**/overview/training.html")
    page.click(".diagram a[href$='training/train.html']")
    page.wait_for_url("**/training/train.html")
    page.close()


def search(page, question: str) -> list[str]:
    "The pages that the search lists, the first one first"
    page.click(".md-search__button")
    page.wait_for_selector("input[role=combobox]")
    page.keyboard.type(question)
    page.wait_for_selector(HITS)
    page.wait_for_timeout(300)  # The list is drawn again with each letter
    return [re.sub(r"[?#].*", "", link) for link in page.eval_on_selector_all(HITS, "links => links.map(a => a.href)")]


@browser_needed
def test_a_newcomer_finds_what_they_ask_for(address, browser):
    page, missed = browser.new_page(), {}
    for question, wanted in {**QUESTIONS, **HELPERS}.items():
        page.goto(address)
        hits = [hit.removeprefix(address) for hit in search(page, question)]
        if hits[:1] != [wanted]: missed[question] = hits[:5]
    page.close()
    assert missed == {}


def test_the_page_of_the_packages_names_each_of_them():
    cells = json.loads((ROOT/"nbs/docs/packages.ipynb").read_text(encoding="utf-8"))["cells"]
    page = "\n".join("".join(cell["source"]) for cell in cells)
    packages = {path.name for path in (ROOT/"nbs/api").iterdir() if path.is_dir()}
    assert packages == {*re.findall(r"^\| \[(\w+)\]", page, re.M)}
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    layers = tomllib.loads((ROOT/"pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
    fix = "nbdev-test nbs/docs/packages.ipynb --save && nbdev-clean"
    assert "".join(outputs[0]["text"]).splitlines() == layers, fix
    for module in re.findall(r'\["([\w.]+)<br>', page):
        assert (ROOT/"mlops_nb"/f"{module.replace('.', '/')}.py").is_file(), module
