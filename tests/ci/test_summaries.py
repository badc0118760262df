"ci.summaries and differences: what comes from data is text on GitHub's pages"
import pytest

from mlops_nb.ci.differences import make_fence
from mlops_nb.ci.summaries import format_cell, format_events, format_page, format_release

EVIL = ["<script>hit()</script>", "![x](http://evil.example/x.png)", "[click](http://evil.example)", "@everybody",
        "a | b\n| c | d |", "`code`", "**bold**", "# heading", "- item", "1. item", "> quote", "$x$", "<!-- hidden"]


@pytest.mark.parametrize("text", EVIL)
def test_a_cell_is_text(text):
    cell = format_cell(text)
    assert "\n" not in cell and "<" not in cell and "@e" not in cell
    for mark in "[]`*|$":       # each stands behind a backslash
        assert all(cell[at - 1] == "\\" for at in range(len(cell)) if cell[at] == mark)
    assert not cell.startswith(("# ", "- ", "> ", "1. "))


def test_a_backslash_before_a_mark_does_not_free_it(): assert format_cell("\\[x](y)") == "\\\\\\[x\\](y)"


@pytest.mark.parametrize("text", EVIL)
def test_no_page_lets_it_through(text):
    release = dict(status=text, model=text, version=text, reason=text, approved_by=text, stages=[], checks=[
        dict(name=text, passed=True, detail=text)])
    events = [dict(time=text, action=text, reason=text)]
    monitor = dict(breach=True, monitor=text, window=[text, text], rows=5, signals={text: dict(verdict=text, rows=[])})
    for page in (format_release(release), format_events(events), format_page(monitor)):
        assert "<script" not in page and "![x](" not in page and "](http" not in page.replace("\\](", "")
        assert "@everybody" not in page


def test_a_fence_is_longer_than_what_it_holds():
    assert make_fence("x") == "```" and make_fence("a ````` b ``") == "``````"
