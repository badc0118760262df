"The pictures of the site: no label and no arrow lies on a box, and a phone shows two boxes side by side at most"
import json
import re
from itertools import pairwise

import pytest

from mlops_nb.notebooks import diagrams
from mlops_nb.notebooks.diagrams import (
    LINE,
    WIDTH,
    Arrow,
    Box,
    Chart,
    curve,
    find_ways,
    lay_out,
    make_narrow,
    read_chart,
)

from tests.support import ROOT

NOTEBOOKS = [ROOT / "nbs/index.ipynb", *sorted((ROOT / "nbs/docs").rglob("*.ipynb"))]
CELLS = [("/".join(path.parts[-2:]), "".join(cell["source"]))
         for path in NOTEBOOKS for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
CHARTS = [pytest.param(text, id=f"{name}-{number}") for name, cell in CELLS
          for number, text in enumerate(re.findall(r"```mermaid\n(.*?)```", cell, re.S))]
FORMS = {"wide": lambda chart: chart, "narrow": make_narrow}


def points_of(path: str, steps: int = 40) -> list[tuple[float, float]]:
    "Points on a path of curves and lines"
    numbers = [[*map(float, part.split())] for part in re.findall(r"[MLC]([^MLC]+)", path)]
    found, at = [], tuple(numbers[0])
    for part in numbers[1:]:
        ends = [*zip(part[::2], part[1::2], strict=True)]
        corners = [at, *(ends if len(ends) == 3 else [at, *ends, *ends])]
        for step in range(steps + 1):
            t = step / steps
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t ** 3)
            found.append(tuple(sum(w * corner[i] for w, corner in zip(weights, corners, strict=True)) for i in (0, 1)))
        at = corners[-1]
    return found


def is_inside(box: Box, left: float, top: float, right: float, bottom: float) -> bool:
    return left < box.x + WIDTH and right > box.x and top < box.y + box.height and bottom > box.y


def crossed(chart: Chart) -> list[str]:
    "Arrows that pass behind a box"
    found = []
    for arrow, way in zip(chart.arrows, find_ways(chart), strict=True):
        points = points_of(curve(chart, arrow, way)[0])
        found += [f"{arrow.start} to {arrow.end} behind {name}" for name, box in chart.boxes.items()
                  if name not in (arrow.start, arrow.end) and any(is_inside(box, x, y, x, y) for x, y in points)]
        own = [chart.boxes[name] for name in (arrow.start, arrow.end)]
        found += [f"{arrow.start} to {arrow.end} through itself" for (x, y), _ in pairwise(points[2:-2])
                  if any(is_inside(box, x + 1, y + 1, x - 1, y - 1) for box in own)]
    return found


def covered(chart: Chart) -> list[str]:
    "Labels that lie on a box"
    def frame(arrow: Arrow, x: float, y: float) -> tuple[float, float, float, float]:
        lines = arrow.label.split("<br>")
        wide, high = 5.5 * max(map(len, lines)), LINE * len(lines) - 3
        return x - wide / 2, y - high / 2, x + wide / 2, y + high / 2
    return [f"{arrow.label} on {name}" for arrow, way in zip(chart.arrows, find_ways(chart), strict=True) if arrow.label
            for name, box in chart.boxes.items() if is_inside(box, *frame(arrow, *curve(chart, arrow, way)[1:]))]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("text", CHARTS)
def test_arrows_and_labels_keep_off_the_boxes(text, form):
    chart = FORMS[form](read_chart(text))
    lay_out(chart)
    assert crossed(chart) == []
    if not chart.across: assert covered(chart) == []


@pytest.mark.parametrize("text", CHARTS)
def test_on_a_phone_two_boxes_stand_side_by_side_at_most(text):
    narrow = make_narrow(read_chart(text))
    lay_out(narrow)
    layers = [box.layer for box in narrow.boxes.values()]
    assert max(map(layers.count, layers)) <= 2
    assert all(narrow.boxes[arrow.start].layer < narrow.boxes[arrow.end].layer for arrow in narrow.arrows
               if not arrow.dotted)


def test_an_arrow_back_goes_along_the_side_where_boxes_stand_above_it():
    chart = read_chart("flowchart TD\na --> b\nb --> c\nc -.-> a")
    lay_out(chart)
    start, _, _, end = diagrams.lead_back(chart, chart.boxes["c"], chart.boxes["a"])
    assert start == (WIDTH, chart.boxes["c"].y + 27) and end == (WIDTH + 3, 27)
