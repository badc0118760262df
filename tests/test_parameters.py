"The parameters cell: what is read, what is refused, and where"
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_nb.errors import UserError
from mlops_nb.notebooks.cells import python_source, read_notebook
from mlops_nb.notebooks.interface import parse_parameters, read_parameters
from mlops_nb.parameters import Parameter, coerce

from tests.support.notebooks import code, stage_cells, text, write_notebook


def one(line): return parse_parameters(line)[0]


@pytest.mark.parametrize(
    "line, fields",
    [
        ("n: int = 3   # rows", dict(type="integer", default=3, kind="input", help="rows")),
        ("r: float = 1   # a rate", dict(type="number", default=1.0)),
        ("r: float = -1e-3   # a rate", dict(type="number", default=-0.001)),
        ("s: str = '007'   # an id", dict(type="string", default="007")),
        ("b: bool = False   # a switch", dict(type="boolean", default=False)),
        ("b: Literal['a', 'b'] = 'a'   # a choice", dict(type="string", enum=("a", "b"))),
        ("b: Literal['a'] = 'a'   # a choice", dict(enum=("a",))),
        ("n: Annotated[int, Range(min=1)] = 3   # rows", dict(type="integer", min=1, max=None)),
        ("n: Annotated[float, Range(None, 1)] = 0.3   # rows", dict(min=None, max=1)),
        ("p: uri_folder = 'x'   # data", dict(type="uri_folder", kind="input", optional=False)),
        ("p: Optional[mlflow_model] = None   # champion", dict(type="mlflow_model", optional=True, default=None)),
        ("p: Optional[Annotated[int, Range(0, 9)]] = None   # rows", dict(type="integer", optional=True, max=9)),
        ("p: Output[mltable] = 'x'   # data", dict(type="mltable", kind="output")),
        (
            "p: Literal[\n  'a',\n  'b',   # the second\n] = 'a'   # a choice",
            dict(enum=("a", "b"), help="the second a choice"),
        ),
        ("p: str = '# no comment'   # help # with a hash", dict(default="# no comment", help="help # with a hash")),
    ],
)
def test_a_line_becomes_a_parameter(line, fields):
    p = one(line)
    assert {k: getattr(p, k) for k in fields} == fields


@pytest.mark.parametrize(
    "line, message",
    [
        ("n = 3   # rows", "`n = 3` has no type"),
        ("n: int = 3", "n has no help"),
        ("n: int = 3   #", "n has no help"),
        ("n: int   # rows", "n has no default"),
        ("import os   # x", "is not a parameter"),
        ("a.b: int = 3   # x", "is not a parameter"),
        ("n: int = 'x'   # rows", "the default of n is 'x'"),
        ("n: int = True   # rows", "the default of n is True"),
        ("n: int = 1.5   # rows", "the default of n is 1.5"),
        ("s: str = 3   # x", "the default of s is 3"),
        ("r: float = 1e999   # x", "the default of r"),
        ("b: bool = 1   # x", "the default of b is 1"),
        ("n: int = f()   # rows", "the default of n is f()"),
        ("n: Annotated[int, Range(0, 2)] = 3   # rows", "at most 2"),
        ("c: Literal['a'] = 'b'   # x", "one of a"),
        ("p: uri_folder = ''   # x", "the default of p"),
        ("p: uri_folder = None   # x", "the default of p"),
        ("p: Optional[int] = 3   # x", "None, as it is Optional"),
        ("p: Output[int] = 3   # x", "has the type `Output[int]`"),
        ("p: Optional[Output[uri_file]] = None   # x", "has the type"),
        ("p: list = []   # x", "has the type `list`"),
        ("p: Literal[1, 2] = 1   # x", "has the type"),
        ("p: Literal['a', 'a'] = 'a'   # x", "has the type"),
        ("p: Annotated[str, Range(0, 1)] = 'a'   # x", "has the type"),
        ("p: Annotated[int, Range(2, 1)] = 1   # x", "has the type"),
        ("p: Annotated[int, Range('a')] = 1   # x", "has the type"),
        ("p: Annotated[int, Span(0, 1)] = 1   # x", "has the type"),
        ("p: 'int' = 1   # x", "has the type"),
        ("é: int = 1   # x", "not a name that Azure takes"),
        ("n: int = (   # x", "not Python"),
    ],
)
def test_what_is_refused(line, message):
    with pytest.raises(UserError) as e: parse_parameters("\n" + line, "train.ipynb:cell 7")
    assert message in str(e.value) and str(e.value).startswith("train.ipynb:cell 7:2: ")


def test_twins_are_refused_at_the_second():
    with pytest.raises(UserError, match="cell:2: a is declared twice"):
        parse_parameters("a: int = 1   # x\na: int = 2   # y", "cell")


@pytest.mark.parametrize(
    "kind, text, value",
    [
        ("string", "007", "007"),
        ("string", "no", "no"),
        ("string", "1.10", "1.10"),
        ("string", "", ""),
        ("integer", "-12", -12),
        ("number", "1e-3", 0.001),
        ("number", "7", 7.0),
        ("boolean", "True", True),
        ("boolean", "false", False),
    ],
)
def test_values_are_read_by_their_type(kind, text, value):
    got = coerce(Parameter("p", kind), text)
    assert got == value and type(got) is type(value)


@pytest.mark.parametrize(
    "kind, text",
    [
        ("integer", "1.0"),
        ("integer", ""),
        ("integer", "1_0"),
        ("number", "nan"),
        ("number", "inf"),
        ("number", "1_0"),
        ("number", "x"),
        ("boolean", "no"),
        ("boolean", "1"),
        ("uri_file", ""),
    ],
)
def test_values_that_do_not_fit_are_refused(kind, text):
    with pytest.raises(UserError, match="^p is "): coerce(Parameter("p", kind), text)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_survives_its_text(x): assert coerce(Parameter("p", "number"), repr(x)) == x


@given(st.text())
def test_every_string_is_itself(text): assert coerce(Parameter("p", "string"), text) == text


@given(st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.text()))
def test_every_default_survives_the_cell(value):
    kind = {int: "int", float: "float", bool: "bool", str: "str"}[type(value)]
    p = one(f"p: {kind} = {value!r}   # help")
    assert p.default == value and not (isinstance(value, float) and math.isnan(p.default))


def test_the_annotations_run():
    namespace = {}
    exec(
        "from mlops_nb.parameters import *\nfrom mlops_nb.parameters import Annotated, Literal, Optional\n"
        "a: uri_folder = 'x'\nb: Output[mlflow_model] = 'x'\nc: Optional[custom_model] = None\nd: Annotated[float, "
        "Range(0, 1)] = 0.1\n"
        "e: Optional[Annotated[int, Range(0)]] = None\nf: Literal['a'] = 'a'\ng: mltable = 'x'\nh: uri_file = 'x'",
        namespace,
    )
    assert namespace["d"] == 0.1


GOOD = "n: int = 1   # rows"


@pytest.mark.parametrize(
    "cells, message",
    [
        ([code(GOOD, "parameters")], "no heading `## Run`"),
        ([text("## Run"), code(GOOD)], "no cell is tagged `parameters`"),
        ([code(GOOD, "parameters"), text("## Run")], "stand above `## Run`"),
        (
            [text("## Run"), code(GOOD, "parameters"), code(GOOD, "parameters")],
            "cell 3: a second cell tagged `parameters`",
        ),
        ([text("## Run"), code(GOOD, "parameters"), text("x\n## Run")], "cell 3: a second `## Run`"),
        ([text("### Run"), code(GOOD, "parameters")], "no heading `## Run`"),
        ([code("## Run"), code(GOOD, "parameters")], "no heading `## Run`"),
    ],
)
def test_notebooks_without_an_interface(tmp_path, cells, message):
    nb = write_notebook(tmp_path / "stage.ipynb", *cells)
    with pytest.raises(UserError) as e: read_parameters(nb)
    assert message in str(e.value) and str(nb) in str(e.value)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"cells": 3}', '{"cells": [{}]}', "\x00"])
def test_what_is_no_notebook(tmp_path, content):
    path = tmp_path / "x.ipynb"
    path.write_text(content)
    with pytest.raises(UserError, match="x.ipynb: not"): read_notebook(path)


def test_a_missing_notebook(tmp_path):
    with pytest.raises(UserError, match="no such notebook"): read_notebook(tmp_path / "x.ipynb")


def test_the_place_is_the_cell(tmp_path):
    nb = write_notebook(tmp_path / "stage.ipynb", *stage_cells("\nn: int = 'x'   # rows", above=("1", "2")))
    with pytest.raises(UserError, match="stage.ipynb:cell 5:2: the default of n"): read_parameters(nb)


@pytest.mark.parametrize(
    "source, plain",
    [
        ("%pip list\nx", "pass\nx"),
        ("  !ls", "  pass"),
        ("f = !ls", "f = None"),
        ("%%time\nx = 1", "\nx = 1"),
        ("%%bash\nls", ""),
        ("a % b", "a % b"),
        ("a != b", "a != b"),
    ],
)
def test_magics_are_blanked(tmp_path, source, plain):
    nb = read_notebook(write_notebook(tmp_path / "x.ipynb", code(source)))
    assert python_source(nb.cells[0]) == plain
