"""Start the loopback Azure and print what a shell must export to see it: `eval "$(python -m tests.support.azure.serve
--background)"`"""
import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support import ROOT
from tests.support.loopback.bench import Bench


def background(folder: Path, port: int) -> str:
    "Start it as a process that outlives this one; gives the exports"
    folder.mkdir(parents=True, exist_ok=True)
    exports = folder / "env.sh"
    exports.unlink(missing_ok=True)
    with (folder / "serve.log").open("w") as log:
        server = subprocess.Popen([sys.executable, "-m", "tests.support.azure.serve", "--folder", str(folder), "--port",
                                   str(port)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                                  cwd=ROOT)
    while not exports.exists():
        if server.poll() is not None: sys.exit((folder / "serve.log").read_text())
        time.sleep(0.1)
    return exports.read_text() + f"\nexport LOOPBACK_PID={server.pid}"


def serve(folder: Path, port: int):
    "Serve until a signal; the exports go to the screen and to env.sh in the folder"
    bench = Bench(folder, port)
    part = folder / "env.sh.part"
    part.write_text(bench.exports())
    part.replace(folder / "env.sh")
    print(bench.exports(), flush=True)
    for number in (signal.SIGTERM, signal.SIGINT): signal.signal(number, lambda *_: sys.exit(0))
    try:
        while True: signal.pause()
    finally:
        print(bench.report(), file=sys.stderr)
        bench.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(f"/tmp/loopback-azure-{os.getuid()}"),
                        help="where its certificate, logs and workspaces go")
    parser.add_argument("--port", type=int, default=0, help="of the proxy; a free one by default")
    parser.add_argument("--background", action="store_true", help="leave it running; kill $LOOPBACK_PID ends it")
    given = parser.parse_args()
    if given.background: print(background(given.folder.resolve(), given.port))
    else:
        given.folder.mkdir(parents=True, exist_ok=True)
        serve(given.folder.resolve(), given.port)
