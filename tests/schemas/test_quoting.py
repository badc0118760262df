"Texts in commands, judged by bash itself: what is let through arrives as it is, in both forms of a command"
import json
import re
import subprocess

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mlops_nb.jobs.launcher import step_arguments
from mlops_nb.notebooks.components import step_command
from mlops_nb.notebooks.interface import parse_arguments
from mlops_nb.parameters import Parameter
from mlops_nb.schemas.expressions import substitute
from mlops_nb.schemas.quoting import find_changed, find_places

characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
pieces = st.sampled_from(["'", '"', "`", "$", "\\", "\n", "\r", "$(echo x)", "; echo x", "${HOME}", "]]", "$[[",
                          "EOF", "<<", "}}", "</", ">", "#", "~", "*", "?", "&", "|", "{a,b}", " ", "\t", "a", "é",
                          "END", "--x"])
texts = st.one_of(st.text(characters), st.lists(pieces, max_size=8).map("".join))
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

NAMES = [f"text{number}" for number in range(12)]
PARAMS = [Parameter("rate", "number"), Parameter("out", "uri_folder", kind="output"),
          *(Parameter(name, "string", optional=number % 3 == 2) for number, name in enumerate(NAMES))]
COMMAND = step_command("nbs/it.ipynb", PARAMS)
STUB = """python() { shift 2; command python3 -c 'import json, sys
print(json.dumps([sys.argv[1:], sys.stdin.buffer.read().decode("utf-8")]))' "$@"; }
"""


def fill(command, values):
    "A command as Azure fills it in: by plain text"
    return substitute(command, lambda parts: values.get(parts[-1]))


@quick
@given(st.lists(texts, min_size=12, max_size=12))
@example(["rock'n'roll", "it's", "'; touch x; '", "", "\n", "a\n", "\n\nb", "$(touch x)", "\\", "\\\n", "'", '"'])
def test_a_generated_command_carries_any_text(values):
    given = {"rate": "0.5", "out": "/data/out", **dict(zip(NAMES, values, strict=True))}
    command = fill(COMMAND, given)
    done = subprocess.run(["bash", "-c", STUB + command], capture_output=True, check=True)
    words, block = json.loads(done.stdout)
    assert not done.stderr and parse_arguments(words, lambda: block) == ("nbs/it.ipynb", given)
    assert parse_arguments(step_arguments(command)) == ("nbs/it.ipynb", given)  # as the launcher forks it


def test_an_optional_text_that_is_not_given_is_absent():
    given = {"rate": "0.5", "out": "/data/out", **{name: "x" for name in NAMES if int(name[4:]) % 3 != 2}}
    assert parse_arguments(step_arguments(fill(COMMAND, given)))[1] == given


def test_a_text_with_the_mark_is_found_before_it_ends_the_document():
    place = next(place for place in find_places(COMMAND) if place.parts[-1] == "text0")
    assert place.quotes == "<<'" and find_changed(f"a\n{place.end}\necho x", place, COMMAND) == place.end


FORMS = [
    "show ${{inputs.x}}", "show '${{inputs.x}}'", 'show "${{inputs.x}}"', "show a'${{inputs.x}}'b",
    "show $'${{inputs.x}}'", "show \"$(cat <<'EOF'\n${{inputs.x}}\nEOF\n)\"",
    'show "$(cat <<EOF\n${{inputs.x}}\nEOF\n)"',
    "show 1 # it's\nshow '${{inputs.x}}'", "show \"$(printf %s '${{inputs.x}}')\"",
    "show \"`printf %s '${{inputs.x}}'`\"",
]


@settings(quick, max_examples=150)
@given(texts, st.sampled_from(FORMS))
def test_what_is_let_through_arrives(text, form):
    place, = find_places(form)
    if find_changed(text, place, form) is not None: return
    show = "show() { command python3 -c 'import json, sys; print(json.dumps(sys.argv[1:]))' \"$@\"; }\n"
    command = ["bash", "-c", show + fill(form, {"x": text})]
    words = json.loads(subprocess.run(command, capture_output=True, check=True).stdout.splitlines()[-1])
    if place.quotes == "": assert words == re.findall(r"[^ \t\n]+", text)
    elif "cat" in form or "printf" in form: assert words == [text.rstrip("\n")]  # as every $(...) does
    else: assert words == ([f"a{text}b"] if "a'" in form else [text])
