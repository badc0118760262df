"The files of a span of time are found without looking into any other year, month or day"
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlops_nb.monitors import collected
from mlops_nb.monitors.collected import files_between

FIRST = datetime(2024, 12, 30, 20, tzinfo=UTC)
HOURS = [FIRST + timedelta(hours=hour) for hour in range(0, 24 * 40, 1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    "Forty days of hours, and what is none"
    folder = tmp_path_factory.mktemp("collected")
    for hour in HOURS:
        place = folder / f"{hour:%Y/%m/%d/%H}"
        place.mkdir(parents=True)
        for name in ("b.jsonl", "a.jsonl.gz", "note.txt"): (place / name).write_text("")
    for odd in ("2025/01/31/24", "2025/02/30/01", "2025/13/01/01", "2025/01/x/01", "old/01/01/01", "2025/01/05/12b"):
        (folder / odd).mkdir(parents=True)
        (folder / odd / "a.jsonl").write_text("")
    (folder / "2025" / "06").write_text("a file")
    return folder


def brute_force(folder: Path, start: datetime | None, end: datetime | None) -> list[str]:
    "Every hour there is, one after the other"
    low = start - timedelta(hours=2) if start else HOURS[0] - timedelta(days=1)
    high = end + timedelta(hours=1) if end else HOURS[-1] + timedelta(days=1)
    hours = [hour for hour in HOURS if low < hour < high]
    return [str(folder / f"{hour:%Y/%m/%d/%H}" / name) for hour in hours for name in ("a.jsonl.gz", "b.jsonl")]


SPANS = [(None, None), (FIRST, FIRST), (datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 1, 8, tzinfo=UTC)),
         (datetime(2025, 1, 1, 0, 30, tzinfo=UTC), None), (None, datetime(2025, 1, 1, 1, tzinfo=UTC)),
         (datetime(2025, 1, 31, 23, tzinfo=UTC), datetime(2025, 2, 1, 2, 59, tzinfo=UTC)),
         (datetime(2030, 1, 1, tzinfo=UTC), None), (None, datetime(1999, 1, 1, tzinfo=UTC))]


@pytest.mark.parametrize("start,end", SPANS)
def test_it_is_what_looking_everywhere_finds(folder, start, end):
    assert files_between(folder, start, end) == brute_force(folder, start, end)


def test_what_it_looks_into_is_the_span_alone(folder, monkeypatch):
    looked, real = [], os.scandir
    monkeypatch.setattr(collected.os, "scandir", lambda path: looked.append(str(path)) or real(path))
    day = datetime(2025, 1, 20, tzinfo=UTC)
    files_between(folder, day, day + timedelta(hours=3))
    below = {str(Path(path).relative_to(folder)) for path in looked if Path(path).is_relative_to(folder)}
    days = {path for path in below if path.count("/") == 2 and Path(path).name.isdecimal()}
    assert days <= {"2025/01/19", "2025/01/20"} and "2024" not in below


def test_a_folder_that_is_not_there_holds_nothing(tmp_path):
    assert files_between(tmp_path / "none", None, None) == []
