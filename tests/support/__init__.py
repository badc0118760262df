"What several tests share: the repository, its programs, and the helpers in the modules of this package"
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # the repository
BIN = Path(sys.executable).parent  # where mlops-nb and its companions are


def write_program(file: Path, text: str, options: str = ""):
    "Make a program of a text of Python; a `#!` line alone takes no Python whose path has a blank"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"""#!/bin/sh
'''exec' "{sys.executable}" {options} "$0" "$@"
' '''
{text}""")
    file.chmod(0o755)
