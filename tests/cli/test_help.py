"The summaries of commands are whole sentences that fit into 80 columns"
import click
import pytest
from click.testing import CliRunner

from mlops_nb.cli.main import GROUPS, main


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
