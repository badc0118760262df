"The summaries of commands are whole sentences that fit into 80 columns"
import inspect
import re
import shlex
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from mlops_nb.cli.main import GROUPS, main
from mlops_nb.schemas.documents import load

from tests.support import ROOT


def groups(group: click.Group, words: tuple[str, ...] = ()):
    "The groups of commands, by the words that lead there"
    yield words, group
    for name in group.list_commands(context := click.Context(group)):
        command = group.get_command(context, name)
        if isinstance(command, click.Group): yield from groups(command, (*words, name))


@pytest.mark.parametrize("words", [words for words, _ in groups(main)], ids=" ".join)
def test_no_summary_is_cut_off(words):
    said = CliRunner().invoke(main, [*words, "--help"], terminal_width=80).output
    rows = [line for line in said.partition("\n\nOptions:")[2].splitlines() if line.startswith("  ") and line[2] != "-"]
    summaries = [line.split(None, 1)[1] for line in rows if not line.startswith("    ")]
    assert summaries and all(text[0].isupper() and text.endswith(".") and "..." not in text for text in summaries), said


def test_commands_are_in_the_order_of_a_day():
    said = CliRunner().invoke(main, ["--help"], terminal_width=80).output
    headings = [line.rstrip(":") for line in said.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == ["Options", *GROUPS], "none is left for More"


def examples():
    "The lines of the help that are commands"
    for _, group in groups(main):
        for command in group.commands.values() if group is not main else map(
                lambda name: main.get_command(click.Context(main), name), main.list_commands(click.Context(main))):
            for block in re.findall("\b\n((?:.+\n?)+)", inspect.cleandoc(command.help or "")):
                yield from (line for line in block.splitlines() if line.startswith("mlops-nb "))


@pytest.mark.parametrize("line", sorted({*examples()}))
def test_an_example_can_be_given_as_it_is_printed(line, monkeypatch):
    "Its options are known, its files are in this repository, and what it sets is an input"
    monkeypatch.chdir(ROOT)
    words = shlex.split(re.split(r" (?:\||>>?|&&) ", line)[0], comments=True)[1:]
    group, command = main, None
    while isinstance(group, click.Group) and words and (found := group.get_command(click.Context(group), words[0])):
        command, group, words = found, found, words[1:]
    assert command, line
    try: command.make_context(line, [*words])
    except click.BadParameter as error: assert "does not exist" in error.message     # A file of the reader's own
    files = [word for word in words if word.startswith(("pipelines/", "nbs/"))]
    for file in files: assert (ROOT / file).exists() or "stage new" in line, file
    for name in re.findall(r"inputs\.(\w+)=", line): assert name in load(ROOT / files[0])["inputs"], name


@pytest.mark.parametrize("typed, meant", [("relase", "release"), ("monitr", "monitor"), ("rnu", "run")])
def test_a_command_that_is_mistyped_is_offered(typed, meant):
    done = CliRunner().invoke(main, [typed])
    assert done.exit_code == 2 and f"'{meant}'" in done.output


def test_the_list_of_commands_reads_no_settings_and_imports_nothing_that_takes_long():
    done = subprocess.run([sys.executable, "-X", "importtime", "-m", "mlops_nb", "--help"], capture_output=True,
                          text=True, check=True)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "mlops_nb.project" in loaded     # of a command that the list names
    ours = {name for name in loaded if name.startswith("mlops_nb.") and name.count(".") == 1}
    light = ("cli", "contract", "errors", "files", "plugins", "processes", "project")
    assert ours == {f"mlops_nb.{name}" for name in light}
    assert loaded.isdisjoint({"yaml", "numpy", "pandas", "mlflow"})
