"Documents: every broken file is one UserError with its line; every good one reads as azure-ai-ml reads it"
import pickle
import subprocess
import sys

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_nb.errors import UserError
from mlops_nb.schemas.documents import Document, Map, Seq, load, mistake, parse, position_of

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.dates()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(st.dictionaries(st.text(), values, min_size=1))
@settings(max_examples=150)
def test_reads_what_the_safe_loader_reads(content):
    text = yaml.safe_dump(content, allow_unicode=True)
    assert parse(text, "x.yml") == yaml.safe_load(text)


@given(st.dictionaries(st.text("abcdefgh_", min_size=1), st.lists(st.integers(), max_size=3), min_size=1, max_size=8),
       st.integers(0, 5))
@settings(max_examples=100)
def test_lines_are_those_of_the_file(content, blank):
    text = "\n" * blank + yaml.safe_dump(content, sort_keys=False)
    doc = parse(text, "x.yml")
    rows = text.splitlines()
    for key, value in doc.items():
        assert rows[doc.lines[key] - 1].strip("'\"? ").startswith(key[:1]) or rows[doc.lines[key] - 1].startswith("'")
        for i, item in enumerate(value):
            assert str(item) in rows[value.lines[i] - 1]


broken = [
    ("a:\n\tb: 1\n", 2, "tab"), ("a: 1\n\tb: 2\n", 2, "tab"), ("a: 1\na: 2\n", 2, "twice"),
    ("a:\n  b: 1\n  b: 2\n", 3, "twice"),
    ("a:\n    b: 1\n  c: 2\n", 3, "line up"), ("a: b: c\n", 1, "quotes"), ("a: @x\n", 1, "quotes"),
    ("a: 'x\n", 2, "close"),
    ("a: [1, 2\n", 2, "not valid YAML"), ("a: *x\n", 1, "anchor"), ("", 1, "empty"), ("# only a comment\n", 1, "empty"),
    ("just text\n", 1, "mapping"), ("- 1\n", 1, "mapping"), ("a: !!python/object:os.system {}\n", 1, "tag"),
    ("a: 2013-13-01\n", 1, "date"),
    ("a: &x {b: *x}\n", 1, "itself"), ("a: 1\n---\nb: 1\n", 2, "one document"), ("a: \x01\n", None, "printable"),
    ("{a: 1, {b: 2}: 3}\n", 1, "key"),
    ("a: {<<: 3}\n", 1, "not valid YAML"), ("a: 1\n" + "b: " + "[" * 5000 + "]" * 5000, None, "deep"),
]


@pytest.mark.parametrize("text, line, words", broken)
def test_broken_text_is_one_clear_error(text, line, words):
    with pytest.raises(UserError) as e: parse(text, "job.yml")
    assert e.value.line == line and words in str(e.value) and e.value.accepted


def test_bytes_that_are_not_utf8(tmp_path):
    path = tmp_path / "job.yml"
    path.write_bytes("a: 1\nb: é\n".encode("latin-1"))
    with pytest.raises(UserError, match="job.yml:2: byte 0xe9"): load(path)
    path.write_bytes("a: 1\n".encode("utf-16"))
    with pytest.raises(UserError, match="not UTF-8"): load(path)
    path.write_bytes("a: é\r\nb: 1\r\n".encode("utf-8-sig"))
    assert load(path) == {"a": "é", "b": 1} and load(path).lines == {"a": 1, "b": 2}


def test_paths_that_hold_no_document(tmp_path):
    (tmp_path / "train.yml").write_text("a: 1")
    (tmp_path / "train.ipynb").write_text("{}")
    (tmp_path / "rows.parquet").write_bytes(b"PAR1\x80")
    (tmp_path / "settings.ini").write_text("[project]\nmodel = m\n")
    for path, words in [("rows.parquet", "rows.parquet is no YAML file(.|\n)*choose one of train.yml"),
                        ("settings.ini", "settings.ini is no YAML file(.|\n)*choose one of train.yml"),
                        ("trian.yml", "did you mean .*train.yml"), ("no/such.yml", "does not exist either"),
                        ("", "is a folder"), ("train.ipynb", "is a notebook(.|\n)*mlops-nb lab .*train.ipynb opens it"),
                        ("train.yml/x", "cannot read")]:
        with pytest.raises(UserError, match=words): load(tmp_path / path)


def test_merges_and_anchors():
    doc = parse("base: &b {x: 1, y: 2}\nmore: &m\n  <<: *b\n  y: 3\nlast: {<<: [*m, *b], z: 4}\nsame: *m\n", "x.yml")
    assert doc["more"] == {"x": 1, "y": 3} and doc["last"] == {"x": 1, "y": 3, "z": 4} and doc["same"] is doc["more"]
    assert position_of(doc["more"], "x") == (doc.file, 1) and position_of(doc["more"], "y") == (doc.file, 4)


def nested(levels: int) -> str:
    "A document in which each line names the one before nine times"
    rows = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(rows)


def test_an_anchor_is_one_value_however_often_it_is_used():
    doc = parse(nested(4), "x.yml")
    assert len(doc["a3"]) == 9 and all(one is doc["a2"] for one in doc["a3"])


def test_anchors_that_stand_for_too_much_are_refused_before_anything_is_made():
    text = nested(40)
    try: parse(text, "x.yml")
    except UserError as error: said = str(error)    # its frames hold the document, which no report could print
    assert "x.yml:6: aliases make over 100,000 values of this" in said


def test_containers_are_dicts_and_lists():
    doc = parse("a: {b: [1, {c: 2}]}\n", "x.yml")
    assert isinstance(doc, Document) and isinstance(doc["a"], Map) and isinstance(doc["a"]["b"], Seq)
    again = pickle.loads(pickle.dumps(doc))
    assert again == doc and again.lines == doc.lines
    error = mistake("b is wrong", doc["a"], "b", accepted="c")
    assert str(error) == "x.yml:1: b is wrong\n  accepted: c"
    assert position_of({"plain": 1}, "plain") == (None, None) and position_of([1], 0) == (None, None)


def test_the_import_is_light():
    code = ("import sys, yaml; before = {*sys.modules}; import mlops_nb.schemas.documents; "
            "print(*sorted({name.split('.')[0] for name in {*sys.modules} - before} - sys.stdlib_module_names))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["mlops_nb"]
