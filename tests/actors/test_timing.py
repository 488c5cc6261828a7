import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kinescribe.actors.timing import timed

SPIN = "import time\nwhile time.process_time() < 0.5: pass\n"
BELOW = f"""
import subprocess, sys
below = subprocess.Popen([sys.executable, "-c", {SPIN + "print(flush=True); input()"!r}], stdin=-1, stdout=-1)
below.stdout.readline()
"""
TIMED = """
from kinescribe.actors.timing import timed
_, stage = timed("decode", lambda: exec({!r}, {{}}))
print(stage.seconds, stage.work_s)
"""


def test_the_result_comes_with_the_time_it_took():
    before = time.time()
    result, stage = timed("decode", lambda: time.sleep(0.05) or "done")
    assert (result, stage.stage) == ("done", "decode")
    assert 0.05 <= stage.seconds < 5
    assert before <= stage.started <= time.time() - stage.seconds + 0.01
    assert stage.worker.endswith(f"/{os.getpid()}")


@pytest.mark.parametrize("work", [SPIN, BELOW], ids=["own", "below"])
def test_waiting_for_a_core_does_not_count_as_work(work):
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(everywhere)})  # as the program below will be
    try:
        command = [sys.executable, "-c", TIMED.format(work)]
        root = Path(__file__).parents[2]
        with subprocess.Popen(command, stdout=-1, text=True, cwd=root) as program:
            while program.poll() is None:
                pass
            seconds, work_s = map(float, program.stdout.read().split())
    finally:
        os.sched_setaffinity(0, everywhere)
    assert 0.1 < work_s < 0.75 * seconds


def test_waiting_for_a_store_counts_as_work_of_the_workers_share():
    _, stage = timed("label", lambda: time.sleep(0.1), share=0.25)
    assert 0.2 * stage.seconds < stage.work_s <= 0.25 * stage.seconds


def test_an_exception_of_the_work_is_raised():
    with pytest.raises(ZeroDivisionError):
        timed("label", lambda: 1 / 0)
