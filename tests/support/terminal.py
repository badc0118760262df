"A command in a terminal, and what it writes there"
import os
import pty
import signal
import sys
from pathlib import Path


def run_in_terminal(
    root: Path,                 # Where it runs
    *words: str,                # Of `mlops-nb`
    screen: bool = True,        # Whether its standard output is the terminal too, and not a pipe that nobody reads
    stop_at: str = "",          # Press Ctrl-C when this stands there
    **variables: str,           # Of its environment, such as TERM
) -> tuple[int, str]:           # Exit code; what the terminal got
    "Run a command in a terminal of its own, to its end"
    pid, terminal = pty.fork()
    if not pid:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.chdir(root)
        if not screen: os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        os.execve(sys.executable, [sys.executable, "-m", "mlops_nb", *words], kept | {"TERM": "xterm"} | variables)
    said = b""
    while part := read_terminal(terminal):
        said += part
        if stop_at and stop_at.encode() in said:
            os.write(terminal, b"\x03")
            stop_at = ""
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said.decode().replace("\r\n", "\n")


def read_terminal(terminal: int) -> bytes:
    "Read what comes next; nothing where the last process has left the terminal, which Linux calls an error"
    try: return os.read(terminal, 65536)
    except OSError: return b""
