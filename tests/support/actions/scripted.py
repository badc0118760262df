"""`mlops-nb` where no cloud is: commands with --on are written down and answered as a test says, all others are the
real ones"""
import json
import os
import sys
from pathlib import Path

folder, words = Path(os.environ["STANDIN_FOLDER"]), sys.argv[1:]
if "--on" not in words:
    os.execv(sys.executable, [sys.executable, "-c", "from mlops_nb.cli.main import main; main()", *words])
place = words[words.index("--on") + 1]
with (folder / "calls.jsonl").open("a") as file:
    file.write(json.dumps({"words": words, "set": os.environ.get("MLOPS_NB_SET", ""),
                           "token": bool(os.environ.get("GITHUB_TOKEN") or os.environ.get("SYSTEM_ACCESSTOKEN"))})
               + "\n")
answer = json.loads((folder / "answers.json").read_text())[f"{words[0]} {place}"]
print(json.dumps(answer["says"]))
sys.exit(answer.get("code", 0))
