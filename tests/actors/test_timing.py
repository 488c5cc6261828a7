import os
import time

import pytest

from actors.timing import timed


def test_work_comes_back_with_the_time_that_it_took():
    before = time.time()
    result, stage = timed("decode", lambda: time.sleep(0.05) or "done")
    assert (result, stage.stage) == ("done", "decode")
    assert 0.05 <= stage.seconds < 5
    assert before <= stage.started <= time.time() - stage.seconds + 0.01
    assert stage.worker.endswith(f"/{os.getpid()}")


def test_what_work_raises_is_raised():
    with pytest.raises(ZeroDivisionError):
        timed("label", lambda: 1 / 0)
