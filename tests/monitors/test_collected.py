"Collected data as Azure writes it: requests that come close in time share one event, under the id of one of them"
import gzip
import json
import random
from datetime import UTC, datetime, timedelta

import pytest

from mlops_nb.monitors import collected
from mlops_nb.monitors.collected import Counts, database, fetch_value, read_keys, read_rows
from mlops_nb.monitors.windows import Window
from mlops_nb.serving.collection import rows_by_request

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = Window(START, START + timedelta(days=1))


def event(id: str, rows: list[dict], second: int) -> dict:
    "A line of the collector"
    time = START + timedelta(seconds=second)
    return {"specversion": "1.0", "id": f"e{second}", "time": f"{time:%Y-%m-%dT%H:%M:%SZ}", "xrequestid": id,
            "correlationid": id, "data": rows}


def read(tmp_path, name: str, events: list[dict]) -> tuple[dict, Counts]:
    "Rows by request and position, and what was left out"
    file = tmp_path / f"{name}.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in events))
    con, counts = database(tmp_path / "spill"), Counts()
    keys = read_keys([str(file)])
    assert "x_request_id" not in keys
    read_rows(con, "found", [str(file)], keys, DAY, counts)
    rows = con.execute('SELECT "$request", "$row", x FROM found').fetchall()
    assert fetch_value(con, "SELECT count(*) FROM found") == len({row[:2] for row in rows})
    return {(id, row): float(x) for id, row, x in rows}, counts


@pytest.mark.parametrize("seed", range(8))
def test_a_batch_is_what_its_requests_are_alone(tmp_path, seed):
    rng = random.Random(seed)
    requests = [(f"r{n}", [{"x": rng.random()} for _ in range(rng.randint(1, 4))]) for n in range(40)]
    alone = [event(id, rows, n) for n, (id, rows) in enumerate(requests)]
    batches, n = [], 0
    while n < len(requests):
        some = requests[n:n + rng.randint(1, 9)]
        rows = [{**row, "x_request_id": id} for id, rows in some for row in rows]
        batches.append(event(some[rng.randrange(len(some))][0], rows, n))
        n += len(some)
    one, counts = read(tmp_path, "alone", alone)
    other, batched = read(tmp_path, "batched", batches)
    assert one == other and len(one) == sum(len(rows) for _, rows in requests)
    assert counts == batched == Counts()
    told = {id: rows for batch in batches for id, rows in rows_by_request(batch).items()}
    assert told == dict(requests)


def test_a_request_that_is_in_two_batches_counts_once(tmp_path):
    row = {"x": 1.0, "x_request_id": "r1"}
    both = [event("r1", [row], 0), event("r2", [{"x": 2.0, "x_request_id": "r2"}, row], 1)]
    found, counts = read(tmp_path, "twice", both)
    assert found == {("r1", 0): 1.0, ("r2", 0): 2.0} and counts.duplicate == 1


def test_events_with_and_without_the_column_are_read_together(tmp_path):
    batch = [{"x": 2.0, "x_request_id": "r2"}, {"x": 3.0, "x_request_id": "r3"}]
    mixed = [event("r1", [{"x": 1.0}], 0), event("r9", batch, 1)]
    assert read(tmp_path, "mixed", mixed)[0] == {("r1", 0): 1.0, ("r2", 0): 2.0, ("r3", 0): 3.0}


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_is_read_in_parts_gives_the_rows_of_the_whole(tmp_path, monkeypatch, packed):
    "Repeated requests, torn lines, rows of another type, two files: nothing depends on where a part ends"
    lines = [json.dumps(event(f"r{n % 30}", [{"x": n, "who": {"a": [n]}}, {"x": None}, n], n)) for n in range(40)]
    lines[7], lines[8] = lines[7][:20], json.dumps({**event("r8", [], 8), "data": {"x": 1}})
    lines.append(json.dumps(event("r50", [{"x": n, "x_request_id": f"s{n % 3}"} for n in range(9)], 50)))
    files = [tmp_path / f"{name}.jsonl{'.gz' * packed}" for name in ("one", "two")]
    for file, part in zip(files, (lines[:23], lines[23:])):
        text = "".join(line + "\n" for line in part).encode()
        file.write_bytes(gzip.compress(text) if packed else text)
    found = []
    for size in (1 << 24, 700, 1):
        monkeypatch.setattr(collected, "BATCH", size)
        counts = Counts()
        with database(tmp_path / f"spill{size}") as con:
            read_rows(con, "found", [*map(str, files)], ["x", "who"], DAY, counts)
            asked = 'SELECT "$time", "$request", "$row", x, who FROM found ORDER BY ALL'
            found.append((con.execute(asked).fetchall(), counts))
    assert found[0] == found[1] == found[2]
    rows, counts = found[0]
    assert (counts.malformed, counts.duplicate) == (2, 8) and len(rows) == 30 * 3 + 9
    assert ("3", '{"a":[3]}') in [(x, who) for *_, x, who in rows]
