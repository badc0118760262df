"Look into the files of a workspace that is in use"
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

SEARCH = """import sys
from pathlib import Path
texts = [text.encode() for text in sys.argv[1:]]
for path in map(Path, sys.stdin.read().splitlines()):
    try: data = path.read_bytes()
    except FileNotFoundError: continue      # SQLite's logs come and go
    if any(text in data for text in texts): print(path)
"""


def files_with(folder: Path, texts: Iterable[str]) -> list[Path]:
    "The files below a folder that hold one of the texts. Another process reads: a close here would end SQLite's locks"
    files = "\n".join(str(path) for path in sorted(folder.rglob("*")) if path.is_file())
    assert files
    command = [sys.executable, "-c", SEARCH, *texts]
    done = subprocess.run(command, input=files, text=True, capture_output=True, check=True)
    return [Path(line) for line in done.stdout.splitlines()]
