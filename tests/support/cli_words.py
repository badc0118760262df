"What the stand-ins of command lines share: how they read their words, and how they refuse"
import os
from typing import Any


def new_id() -> str: return "-".join(os.urandom(n).hex() for n in (4, 2, 2, 2, 6))


class Wrong(Exception):
    "What the program says on standard error, with its exit code"
    def __init__(self, text: str, code: int = 1): super().__init__(text); self.code = code


def options(words: list, known: dict, positional: int = 0) -> dict:
    "Words as options; `known` says which there are, and whether they take a value (1), several (2) or none (0)"
    found: dict[str, Any] = {}
    left = list(words)
    free = [left.pop(0) for _ in range(positional)]
    while left:
        word = left.pop(0)
        if word not in known: raise Wrong(f"unrecognized arguments: {word}", 2)
        if known[word] == 0: found[word] = True
        elif not left or left[0].startswith("--"): raise Wrong(f"argument {word}: expected one argument", 2)
        elif known[word] == 1: found[word] = left.pop(0)
        else:
            found[word] = []
            while left and not left[0].startswith("--"): found[word].append(left.pop(0))
    return found | {"free": free}


def need(given: dict, *names):
    lacking = [name for name in names if name not in given]
    if lacking: raise Wrong(f"the following arguments are required: {', '.join(lacking)}", 2)
