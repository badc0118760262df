"The life of a job: any order of runners, looks, cancels and kills, with a crash between any two writes"
import tempfile
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from mlops_nb.workspace import workspace as module
from mlops_nb.workspace.workspace import ACTIVE, DONE, MOVES, Workspace, add_job, close_dead_jobs, lock_job, move_job

JOB = {"name": "j", "file": "f", "kind": "pipeline", "signature": "s", "experiment": "e"}
KILLED = "its runner was killed"


class Crash(BaseException):
    "The process dies here"


class Dying:
    "A connection of a process that dies before its n-th write; after that nothing of it is written"
    def __init__(self, db, writes: int): self.db, self.left = db, writes

    def execute(self, query, values=()):
        if not query.startswith("SELECT"):
            self.left -= 1
            if self.left < 0: raise Crash
        return self.db.execute(query, values)

    def executemany(self, query, rows):
        self.left -= 1
        if self.left < 0: raise Crash
        return self.db.executemany(query, rows)

    @property
    def in_transaction(self): return self.db.in_transaction and self.left >= 0


class Process:
    "A runner of one job, with a workspace of its own, which can die"
    def __init__(self, root: Path, writes: int | None):
        self.workspace, self.lock, self.job = Workspace(root), ExitStack(), ""
        self.real = self.workspace.db
        if writes is not None: self.workspace.db = Dying(self.real, writes)  # type: ignore[assignment]

    def do(self, work) -> bool:
        "False where it died"
        try: work()
        except Crash:
            self.die()
            return False
        return True

    def die(self):
        "The operating system takes back the locks, and SQLite what was not committed"
        self.lock.close()
        for held in self.workspace.fresh.values(): held.close()
        self.workspace.fresh.clear()
        self.real.close()


def reachable(before: str) -> set[str]:
    found = {before}
    while more := {after for state in found for after in MOVES[state]} - found: found |= more
    return found


def no_process(mark: str, seconds: float = 0) -> None:
    "No process of this test bears a mark"


WRITES = st.one_of(st.none(), st.integers(0, 8))


class Jobs(RuleBasedStateMachine):
    runners = Bundle("runners")

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name)
        self.eye = Workspace(self.root)
        self.alive: dict[str, Process] = {}
        self.seen: dict[str, str] = {}
        self.patches = pytest.MonkeyPatch()
        self.patches.setattr(module, "end_marked", no_process)
        # An id holds the time and a random part: the same examples are to make the same ids, in the same order
        numbers, now = count(), module.local_now()
        self.patches.setattr(module, "secrets", SimpleNamespace(token_hex=lambda n: f"{next(numbers):0{2 * n}x}"))
        self.patches.setattr(module, "local_now", lambda: now)

    def teardown(self):
        self.patches.undo()
        for process in [*self.alive.values()]: process.die()
        self.eye.db.close()
        self.folder.cleanup()

    def keep(self, process: Process, work) -> bool:
        alive = process.do(work)
        if alive: self.alive[process.job] = process
        else: self.alive.pop(process.job, None)
        return alive

    @rule(target=runners, writes=WRITES)
    def enter(self, writes):
        process = Process(self.root, writes)
        def work(): process.job = add_job(process.workspace, JOB, ["a", "b"])
        return process if self.keep(process, work) else multiple()

    @rule(process=runners)
    def begin(self, process):
        "A job that was asked to stop before it ran stays so"
        if self.alive.get(process.job) is not process or self.states()[process.job] == "Running": return
        asked = self.states()[process.job] == "CancelRequested"
        def work():
            if process.job in process.workspace.fresh:
                assert process.lock.enter_context(lock_job(process.workspace, process.job))
            assert move_job(process.workspace, process.job, "Running") != asked
        self.keep(process, work)

    @rule(target=runners, writes=WRITES, data=st.data())
    def resume(self, writes, data):
        ended = [job for job, state in self.states().items() if state in ("Failed", "Canceled")]
        if not ended: return multiple()
        process = Process(self.root, writes)
        process.job = data.draw(st.sampled_from(ended))
        def work():
            assert process.lock.enter_context(lock_job(process.workspace, process.job))
            assert move_job(process.workspace, process.job, "Running", error=None)
        return process if self.keep(process, work) else multiple()

    @rule(process=runners, step=st.sampled_from("ab"), state=st.sampled_from(["Running", "Completed", "Failed"]))
    def work(self, process, step, state):
        if self.alive.get(process.job) is not process: return
        where = {"job": process.job, "name": step}
        self.keep(process, lambda: process.workspace.update("steps", where, status=state))

    @rule(process=consumes(runners), state=st.sampled_from(DONE))
    def end(self, process, state):
        if self.alive.get(process.job) is not process: return
        may = state in MOVES[self.states()[process.job]]
        def work():
            process.workspace.update("steps", {"job": process.job, "status": "Running"}, status=state)
            assert move_job(process.workspace, process.job, state) == may
        if self.keep(process, work):
            self.alive.pop(process.job)     # where it may not end so, its process ends without a word
            process.die()

    @rule(process=consumes(runners))
    def kill(self, process):
        if self.alive.get(process.job) is not process: return
        self.alive.pop(process.job).die()

    @rule(data=st.data())
    def cancel(self, data):
        if states := {job: state for job, state in self.states().items() if state in ACTIVE} or self.states():
            job = data.draw(st.sampled_from(sorted(states)))
            assert move_job(self.eye, job, "CancelRequested") == (states[job] in ("NotStarted", "Running"))

    @rule(writes=WRITES)
    def look(self, writes):
        "`mlops-nb jobs`, which may die as well; the next one does what it left"
        process = Process(self.root, writes)
        if process.do(lambda: close_dead_jobs(process.workspace)): process.die()
        close_dead_jobs(self.eye)
        assert {job for job, state in self.states().items() if state in ACTIVE} <= {*self.alive}
        running = self.eye.rows("SELECT job FROM steps WHERE status = 'Running'")
        assert {row["job"] for row in running} <= {*self.alive}

    def states(self) -> dict[str, str]: return {row["id"]: row["status"] for row in self.eye.rows("SELECT * FROM jobs")}

    @invariant()
    def moves_are_those_of_the_table(self):
        states = self.states()
        assert self.seen.keys() <= states.keys()
        for job, state in states.items(): assert state in reachable(self.seen.get(job, "NotStarted"))
        self.seen = states

    @invariant()
    def nobody_alive_is_buried(self):
        for job in self.alive:
            row, = self.eye.rows("SELECT status, error FROM jobs WHERE id = ?", job)
            assert row["status"] in ACTIVE and row["error"] is None

    @invariant()
    def a_job_has_all_its_steps(self):
        query = "SELECT count(s.name) AS steps FROM jobs j LEFT JOIN steps s ON s.job = j.id GROUP BY j.id"
        rows = self.eye.rows(query)
        assert {row["steps"] for row in rows} <= {2}


Jobs.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None,
                                  suppress_health_check=[*HealthCheck])     # a busy machine is no finding
TestJobs = Jobs.TestCase


def test_ids_are_unique_within_a_second(tmp_path, monkeypatch):
    workspace = Workspace(tmp_path)
    tokens = iter(["aa", "aa", "aa", "bb"])
    monkeypatch.setattr(module.secrets, "token_hex", lambda n: next(tokens))
    now = module.local_now()
    monkeypatch.setattr(module, "local_now", lambda: now)
    assert len({add_job(workspace, JOB, ["a"]) for _ in range(2)}) == 2
