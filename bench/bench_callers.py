"""4, 16, 100 and 500 callers at once, and 4 beside slow and large requests: the tail of the answers, and who got none.

    .venv/bin/python bench/bench_callers.py --seconds 10

A deployment takes 16 requests at a time here and lets as many wait; the others get 429, as Azure ML answers them.
"""
import argparse
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from harness import PYTHON, Result, versions

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]


@contextmanager
def slow(port: int, count: int = 500) -> Iterator[None]:
    "Connections that send the first half of a request and then nothing"
    links = []
    try:
        for _ in range(count):
            links.append(socket.create_connection(("127.0.0.1", port)))
            links[-1].sendall(b"POST /score HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n[")
        yield
    finally:
        for link in links: link.close()


@contextmanager
def large(port: int, key: str, count: int = 1) -> Iterator[None]:
    "Callers that send bodies of 10 MB, one after the other"
    import http.client
    body, ended = b"[" + b'{"p": 0.25},' * 800_000 + b'{"p": 0.25}]', threading.Event()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    def call() -> None:
        while not ended.is_set():
            link = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            try:
                link.request("POST", "/score", body, headers)
                link.getresponse().read()
            except OSError: pass
            finally: link.close()
    threads = [threading.Thread(target=call) for _ in range(count)]
    for thread in threads: thread.start()
    try: yield
    finally:
        ended.set()
        for thread in threads: thread.join()


def main():
    from load import measure

    from mlops_nb.serving.endpoints import Endpoints

    from tests.support.serving import make_workspace
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10)
    asked = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="callers-"))
    root = make_workspace(home / "project")
    endpoints, found = Endpoints(root), {}
    endpoints.deploy(root / "endpoint.yml", root / "deployment.yml")
    port, key = endpoints.folder("echo").state["port"], endpoints.keys("echo")["primary"]
    others = {"": nullcontext(), " beside 500 half-sent requests": slow(port), " beside one of 10 MB": large(port, key),
              " beside two of 10 MB": large(port, key, 2)}
    try:
        for callers, beside in [(4, ""), (16, ""), (100, ""), (500, ""), *((4, name) for name in others if name)]:
            with others[beside]:
                one = measure(port, "/score", b'[{"p": 0.25}]', key, asked.seconds, callers)
            found[f"{callers} callers{beside}"] = [one]
            print(callers, beside, one, file=sys.stderr, flush=True)
    finally:
        endpoints.stop("echo")
        shutil.rmtree(home, ignore_errors=True)
    result = Result("callers", "Callers at once", units={
        "per_second": "answered with 200 a second", "p99_ms": "their p99 ms", "longest_ms": "longest ms",
        "refused": "429", "broken": "neither 200 nor 429"}, versions=versions(PYTHON, "mlops-nb", "aiohttp"))
    result.add(found)
    broken = max(one["broken"] for rows in found.values() for one in rows)
    result.target("requests that got neither an answer nor a 429", broken, 0)
    (beside,) = found["4 callers beside two of 10 MB"]
    result.target("longest of 4 callers beside two of 10 MB", beside["longest_ms"], 2000, " ms")
    few, many = (found[f"{count} callers"][0]["per_second"] for count in (16, 500))
    result.target("answers a second of 16 callers, times those of 500, of whom most are refused", few / many, 2)
    result.write()


if __name__ == "__main__": main()
