"The texts against the code: the commands that they give, what they import and call, and the first cells of tutorials"
import ast
import importlib
import inspect
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest

from mlops_nb.cli.main import main
from mlops_nb.schemas.documents import load

from tests.support import ROOT

DOCS = ROOT / "nbs/docs"
NOTEBOOKS = sorted((ROOT / "nbs").rglob("*.ipynb"))
PAGES = [page for page in NOTEBOOKS if DOCS in page.parents]
GUIDES = [page for page in PAGES if page.parent.name in ("tutorials", "howto")]
def name_of(page: Path) -> str: return page.relative_to(ROOT / "nbs").with_suffix("").as_posix()
MEANT = {"NAME": "name", "FILE": "settings.ini", "PATH": "path", "EVENT": "1"}     # What a reader puts in
LONG = re.compile(r"mlops-nb (run|loop|deploy|release|sample|endpoint|outcomes|monitor)\b")


def cells_of(page: Path, kind: str) -> list[str]:
    cells = json.loads(page.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


def python_of(page: Path) -> list[ast.Module]:
    return [ast.parse(source) for source in cells_of(page, "code") if not source.startswith("%%")]


def scripts_of(page: Path) -> list[str]:
    "What a page shows as shell: blocks of its texts, and its cells"
    prose = "\n".join(cells_of(page, "markdown"))
    indented = re.findall(r"(?:^(?: {4}.*)\n?)+", prose, re.M)
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", prose, re.M | re.S)
    cells = [source.partition("\n")[2] for source in cells_of(page, "code") if source.startswith("%%bash")]
    return [re.sub(r"^ {4}", "", block, flags=re.M) for block in indented] + cells + [
        block for language, block in blocks if language in ("", "bash")]


def commands_of(script: str) -> list[list[str]]:
    "The commands of a script that are ours, as words"
    script = re.sub(r"<<'?(\w+)'?\n.*?^\1$", "", script.replace("\\\n", " "), flags=re.M | re.S)
    script = re.sub(r"\d>&\d", "", script)
    found = []
    for line in script.splitlines():
        if "mlops-nb " not in line: continue
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        command: list[str] = []
        for word in [*words, ";"]:
            if not re.fullmatch(r"[();<>|&]+", word):
                command.append(word)
                continue
            if command and command[0].endswith("mlops-nb"): found.append([*map(as_meant, command)])
            command = []
    return found


def as_meant(word: str) -> str: return MEANT.get(word, word)


def listed_commands(page: Path) -> list[list[str]]:
    'The commands that the Python of a page gives: ["mlops-nb", ...], and mlops_nb(...), a helper of some pages'
    found = []
    for tree in python_of(page):
        for node in ast.walk(tree):
            words = node.elts if isinstance(node, ast.List) else []
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "mlops_nb":
                words = [ast.Constant("mlops-nb"), *node.args]
            values = [getattr(word, "value", "name") if isinstance(word, ast.Constant) else "name" for word in words]
            if values[:1] == ["mlops-nb"] and not any(isinstance(word, ast.Starred) for word in words):
                found.append(values)
    return found


def parse(words: list[str]) -> None:
    "Read a command as the program would, and run nothing"
    group: click.Command = main
    context, words = click.Context(main, info_name="mlops-nb"), words[1:]
    while isinstance(group, click.Group) and words and (found := group.get_command(context, words[0])):
        group, words = found, words[1:]
    if isinstance(group, click.Group) and words and not words[0].startswith("-"):
        raise click.UsageError(f"there is no command {words[0]}")
    try: group.make_context(group.name, [*words], parent=context)
    except click.exceptions.Exit: pass      # --help and --version end at once
    except click.BadParameter as error:
        if "does not exist" not in error.message: raise     # A file that the page makes


@pytest.mark.parametrize("page", NOTEBOOKS, ids=name_of)
def test_its_commands_can_be_given(page):
    made = re.findall(r"(?:> |stage new )([\w./]+)", "\n".join(cells_of(page, "code")))
    for words in [words for script in scripts_of(page) for words in commands_of(script)] + listed_commands(page):
        line = " ".join(words)
        try: parse(words)
        except click.UsageError as error: pytest.fail(f"{line}: {error.message}")
        files = [word for word in words if re.match(r"(pipelines|nbs)/.*\.\w+$", word)]
        known = [file for file in files if (ROOT / file).is_file()]
        assert {*files} <= {*known, *made}, line
        for name in re.findall(r"inputs\.(\w+)=", line):
            if known: assert name in load(ROOT / known[0])["inputs"], line


def imported(page: Path) -> dict[str, object]:
    "What the cells of a page import from the machinery, by name"
    names: dict[str, object] = {}
    for tree in python_of(page):
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("mlops_nb"): continue
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                if not hasattr(module, alias.name): importlib.import_module(f"{node.module}.{alias.name}")
                names[alias.asname or alias.name] = getattr(module, alias.name)
    return names


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_it_imports_is_there_and_takes_what_it_is_given(page):
    known = imported(page)
    for tree in python_of(page):
        for node in ast.walk(tree):
            called = known.get(node.func.id) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None
            if called is None or isinstance(called, ModuleType): continue
            starred = any(isinstance(word, ast.Starred) for word in node.args)
            if starred or any(word.arg is None for word in node.keywords): continue
            given = {str(word.arg): None for word in node.keywords}
            try: inspect.signature(called).bind(*node.args, **given)
            except TypeError as error: pytest.fail(f"{ast.unparse(node)}: {error}")


def first_cells(page: Path) -> dict:
    "A notebook with the cells up to the first command that takes long"
    notebook = json.loads(page.read_text(encoding="utf-8"))
    kept = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code": continue
        if LONG.search(source) or '["mlops-nb"' in source: break
        kept.append(cell)
    return {**notebook, "cells": kept}


RUN = """
import sys
from fastcore.nbio import read_nb
from execnb.shell import CaptureShell
CaptureShell(mpl_format=None).run_all(read_nb(sys.argv[1]), exc_stop=True)
"""


@pytest.mark.parametrize("page", [page for page in GUIDES if len(first_cells(page)["cells"]) > 1],
                         ids=name_of)
def test_its_cells_before_the_first_long_command_run(page, tmp_path):
    "Among them are those that edit a notebook of the example by what stands in it"
    (tmp_path / page.name).write_text(json.dumps(first_cells(page)))
    done = subprocess.run([sys.executable, "-c", RUN, tmp_path / page.name], cwd=page.parent, text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
