"""Fingerprints of a large input: against reading it once, again without a change, and touched but equal"""
import os
import sqlite3
import sys
import time
from pathlib import Path

from harness import HOME, PYTHON, Result, rounds, versions

from mlops_nb.fingerprints import Memory, fingerprint

SIZE = 2 * 2**30  # bytes


def timed(work) -> dict:
    "Time of a call in this process, its CPU with all threads"
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


def read(path: Path):
    "Read a file once, a megabyte at a time"
    block = bytearray(2**20)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(block): pass


def cold(path: Path, work):
    "A call after the system has forgotten what it read of a file"
    file = os.open(path, os.O_RDONLY)
    os.fdatasync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)
    return timed(work)


def main(size: int = SIZE):
    path = HOME/"work"/"large.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        for _ in range(size // 2**24): file.write(os.urandom(2**24))
    os.utime(path, (time.time() - 60,)*2)  # long enough ago to be trusted
    fresh = lambda: fingerprint(path, Memory(sqlite3.connect(":memory:")))
    memory = Memory(sqlite3.connect(":memory:"))
    before = fingerprint(path, memory)
    name = f"{size/2**30:g} GB"
    result = Result(
        "fingerprint",
        f"Fingerprint of {name}",
        baseline="read once, from disk",
        versions=versions(PYTHON, "mlops-nb", "blake3"),
    )
    result.add(
        rounds(
            {
                "read once, from disk": lambda: cold(path, lambda: read(path)),
                "fingerprint, from disk": lambda: cold(path, fresh),
                "read once, from memory": lambda: timed(lambda: read(path)),
                "fingerprint, from memory": lambda: timed(fresh),
                "fingerprint again, unchanged": lambda: timed(lambda: fingerprint(path, memory)),
            },
            count=3,
        )
    )
    wall = lambda row: result.rows[row]["wall"]["median"]
    result.target(
        "wall of the fingerprint from disk, times reading once",
        wall("fingerprint, from disk") / wall("read once, from disk"),
        1.3,
    )
    result.notes.append(
        f"Of a file that is in memory already, the fingerprint takes "
        f"{wall('fingerprint, from memory') / wall('read once, from memory'):.1f} times as long as copying it."
    )
    os.utime(path)
    result.target("reads while nothing changed, beyond the first", memory.reads - 1, 0)
    result.target("touched but equal: fingerprints that differ", float(fingerprint(path, memory) != before), 0)
    path.unlink()
    result.write()


if __name__ == "__main__": main(*([int(float(sys.argv[1])*2**30)] if sys.argv[1:] else []))
