"What several tests share: the repository, its programs, and the helpers in the modules of this package"
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # the repository
BIN = Path(sys.executable).parent  # where mlops-nb and its companions are
