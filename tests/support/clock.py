"A wall clock that a test can step while processes run: `clock.c` is loaded into them before the C library"
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

MINUTES, HOUR, YEAR = 600, 3600, 365 * 86400
STEPS = (MINUTES, -MINUTES, HOUR, -HOUR, YEAR, -YEAR, 0)     # seconds ahead of the true time, one after the other


class Clock:
    "What processes with these variables take for the time"
    def __init__(self, folder: Path):
        compiler = shutil.which("cc") or pytest.skip("no C compiler")
        if sys.platform != "linux": pytest.skip("the clock is stepped on Linux only")
        library, source = folder/"clock.so", Path(__file__).with_name("clock.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
        self.file = folder/"clock"
        self.file.write_bytes(bytes(8))
        self.variables = {"LD_PRELOAD": str(library), "CLOCK_FILE": str(self.file)}

    @classmethod
    def of_this_process(cls) -> "Clock":
        "The clock under which this process runs"
        clock = cls.__new__(cls)
        clock.file = Path(os.environ["CLOCK_FILE"])
        return clock

    def step(self, seconds: int):
        "Let it be so far ahead of the true time"
        with open(self.file, "r+b") as file: file.write(struct.pack("=q", seconds * 10**9))
