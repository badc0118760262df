"Plain technical English: words that no text uses, and sentences that are not too long"
import ast
import inspect
import io
import json
import re
import tokenize
from collections.abc import Iterator

import click
import pytest
import yaml

from mlops_nb.cli.main import main

from tests.support import ROOT

RULES = yaml.safe_load((ROOT/"tests/words.yml").read_text(encoding="utf-8"))
WORDS = [(re.compile(rule["pattern"], re.M), rule["instead"]) for rule in RULES["riddles"] + RULES["terms"]]
CODE = re.compile(r"```.*?```|`[^`]*`|\$\$.*?\$\$|^ {4}.*$|https?://\S+", re.S | re.M)


def prose_of(notebook: str) -> str:
    "The Markdown of a notebook, without code"
    cells = json.loads(notebook)["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    return CODE.sub(" ", "\n\n".join(texts))


def comments_of(text: str) -> str:
    "The comments of settings.ini, a Makefile or YAML; one behind a value is a paragraph of its own"
    found = re.findall(r"^(.*?)(?:^|\s)#+ (.*)$", text, re.M)
    return "\n".join(f"\n{comment}\n" if value.strip() else comment for value, comment in found)


def helps(group: click.Group, name: str) -> Iterator[tuple[str, str]]:
    "The help of every command and option"
    for word, command in group.commands.items():
        options = [option.help or "" for option in command.params if isinstance(option, click.Option)]
        yield f"{name} {word} --help", "\n\n".join([inspect.cleandoc(command.help or ""), *options])
        if isinstance(command, click.Group): yield from helps(command, f"{name} {word}")


def words_of_code(source: str) -> str:
    "The docstrings, comments and messages of errors of a module, each a paragraph"
    found, tree = [], ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            found.append(ast.get_docstring(node) or "")
        function = node.func if isinstance(node, ast.Call) else None
        called = getattr(function, "id", None) or getattr(function, "attr", None) or ""
        if called.endswith(("Error", "Failed", "mistake")):
            parts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
            found += [part for part in parts if isinstance(part, str)]
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT]
    return CODE.sub(" ", "\n\n".join([*found, *(text for text in comments if not text.startswith(("%%", "|")))]))


def texts() -> Iterator[tuple[str, str]]:
    "Everything that a user reads: where it stands, and its prose"
    templates = ROOT/"mlops_nb/scaffold/templates"
    for path in sorted([*(ROOT/"nbs").rglob("*.ipynb"), *templates.rglob("*.ipynb")]):
        if ".ipynb_checkpoints" not in path.parts: yield str(path.relative_to(ROOT)), prose_of(path.read_text())
    for name in ("README.md", "CONTRIBUTING.md"): yield name, CODE.sub(" ", (ROOT/name).read_text())
    for path in [ROOT/"settings.ini", ROOT/"Makefile", *sorted((ROOT/"pipelines").rglob("*.yml"))]:
        yield str(path.relative_to(ROOT)), comments_of(path.read_text())
    for path in sorted((ROOT/"mlops_nb").rglob("*.py")):
        if "templates" not in path.parts: yield str(path.relative_to(ROOT)), words_of_code(path.read_text())
    whole = click.Context(main)
    for word in main.list_commands(whole):
        if command := main.get_command(whole, word):
            yield from helps(click.Group("mlops-nb", {word: command}), "mlops-nb")


@pytest.fixture(scope="module")
def read() -> dict[str, str]:
    return dict(texts())


def flagged(read: dict[str, str]) -> list[str]:
    "Each use of a word of the list, with what to write instead"
    found = []
    for name, text in read.items():
        for pattern, instead in WORDS:
            found += [f"{name}: {' '.join(match[0].split())!r}; write: {instead}" for match in pattern.finditer(text)]
    return found


def long_sentences(text: str) -> list[str]:
    "Sentences of running text that nobody can follow; lists and tables are divided by their lines"
    lines = re.sub(r"\n(?=\s*(?:[-|#>]|\d+\.))", "\n\n", text)
    sentences = [part for block in re.split(r"\n\s*\n", lines) for part in re.split(r"(?<=[.:?!;])\s+", block)]
    return [" ".join(part.split()) for part in sentences
            if len(part.split()) > RULES["sentences"]["most_words"] and not part.lstrip().startswith("|")]


def test_no_text_uses_a_word_of_the_list(read):
    assert len(read) > 250
    assert flagged(read) == []


def test_no_sentence_is_too_long(read):
    assert {name: found for name, text in read.items() if (found := long_sentences(text))} == {}


@pytest.mark.parametrize("text", [
    "Who knows one of these knows all four. ", "Whoever waits is told.", "every 1. row asks", "10 late, 190 clock",
    "It tells the whole story.", "Give the same command again.", "It is better beyond doubt.", "Read it anew."])
def test_the_list_finds_riddles(text):
    assert flagged({"a page": text})


def test_docstrings_comments_and_messages_are_read():
    source = 'def f(x):  # whoever asks\n    "Write it anew"\n    raise UserError(f"{x} shall not pass", fix="anew")\n'
    assert len(flagged({"module": words_of_code(source)})) == 4
    assert flagged({"module": words_of_code("anew = shall = 1  # a value")}) == []


def test_questions_and_code_are_not_flagged():
    page = {"cell_type": "markdown", "source": "Who may approve a release?\n\n    whoever anew"}
    notebook = json.dumps({"cells": [page]})
    assert flagged({"a page": prose_of(notebook)}) == []
    assert long_sentences("One two. " * 100) == [] and len(long_sentences("word " * 61)) == 1
