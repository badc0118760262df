"Runs one rebuilt monitor: started by the stand-in in the Python that is a job's image"
import json
import sys
from dataclasses import asdict
from pathlib import Path


def main(file: Path, at: str):
    from mlops_nb.monitors.monitor import run_monitor
    (file.parent / "result.json").write_text(json.dumps(asdict(run_monitor(file.parent, file, at))))


if __name__ == "__main__": main(Path(sys.argv[1]).resolve(), sys.argv[2])
