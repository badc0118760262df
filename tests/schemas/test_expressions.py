"Properties of expression substitution"
import re

from hypothesis import given
from hypothesis import strategies as st

from mlops_nb.schemas.expressions import binding, literal, references, substitute

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
values = st.text(max_size=20)
plain = st.text(alphabet=st.characters(exclude_characters="${}[]"), max_size=20)


@given(st.text(max_size=60))
def test_text_without_expressions_is_left_alone(text):
    if not list(references(text)) and "$[[" not in text: assert substitute(text, {}.get) == text


@given(st.lists(st.tuples(plain, names), min_size=1, max_size=5), st.dictionaries(names, values), plain)
def test_every_expression_becomes_exactly_its_value(parts, known, end):
    lookup = {("inputs", name): known.get(name, "default") for _, name in parts}
    text = "".join(f"{before}${{{{inputs.{name}}}}}" for before, name in parts) + end
    expected = "".join(before + lookup["inputs", name] for before, name in parts) + end
    assert substitute(text, lookup.get) == expected


@given(names, values)
def test_values_are_not_expanded_again(name, value):
    assert substitute(f"${{{{ inputs.{name} }}}}",
                      {("inputs", name): "${{inputs." + name + "}}" + value}.get) == "${{inputs." + name + "}}" + value


@given(plain, names, names, plain)
def test_an_optional_block_stands_or_falls_as_one(before, first, second, after):
    text = f"{before}$[[--a ${{{{inputs.{first}}}}} --b ${{{{inputs.{second}}}}}]]{after}"
    assert substitute(text, {("inputs", first): "1"}.get if first != second else {}.get) == before + after
    assert substitute(text, lambda parts: "1") == f"{before}--a 1 --b 1{after}"


@given(st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()))
def test_a_literal_is_what_str_says(value): assert literal(value) == str(value)


@given(names, names)
def test_a_binding_is_one_expression_and_nothing_else(first, second):
    text = f"${{{{parent.jobs.{first}.outputs.{second}}}}}"
    assert binding(text) == ("parent", "jobs", first, "outputs", second) == tuple(re.sub(r"[${}]", "", text).split("."))
    assert binding(text + "x") is None and binding({"path": text}) is None
