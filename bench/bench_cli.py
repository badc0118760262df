"""How long the command line takes to say something"""
from functools import partial

from harness import PYTHON, Result, rounds, spawn, versions

COMMAND = PYTHON.with_name("mlops-nb")
COMPLETION = {"_MLOPS_NB_COMPLETE": "bash_complete", "COMP_WORDS": "mlops-nb ru", "COMP_CWORD": "1"}


def main():
    result = Result(
        "cli", "The command line's own time", baseline="python -c pass", versions=versions(PYTHON, "mlops-nb", "click")
    )
    result.add(
        rounds(
            {
                "python -c pass": partial(spawn, [PYTHON, "-c", "pass"]),
                "python -c 'import click'": partial(spawn, [PYTHON, "-c", "import click"]),
                "mlops-nb --help": partial(spawn, [COMMAND, "--help"]),
                "shell completion": partial(spawn, [COMMAND], env=COMPLETION),
            },
            count=10,
        )
    )
    result.target("CPU of --help", result.rows["mlops-nb --help"]["cpu"]["median"], 0.15, " s")
    result.target("CPU of shell completion", result.rows["shell completion"]["cpu"]["median"], 0.15, " s")
    result.write()


if __name__ == "__main__": main()
