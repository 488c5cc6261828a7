"""The limits of the process in which templates and tokenizers are tried."""

import pytest

from kinescribe.models import limited_process
from kinescribe.models.limited_process import answer

PROGRAMS = {
    "environ": "import os; print(sorted(os.environ))",
    "memory": "from kinescribe.models.limited_process import limit; limit(); bytearray(4 << 30)",
    "time": "from kinescribe.models.limited_process import limit; limit(1)\nwhile True: pass",
    "output": "from kinescribe.models.limited_process import limit; limit(); print('a' * (8 << 20))",
    "sleep": "import time; time.sleep(60)",
}


@pytest.fixture
def programs(tmp_path, monkeypatch):
    for name, text in PROGRAMS.items():
        (tmp_path / f"program_{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    answer.cache_clear()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("memory", "MemoryError"),
        ("output", "File too large"),
        ("absent", "No module named"),
    ],
)
def test_a_program_that_needs_too_much_is_ended_with_the_reason(programs: None, name: str, message: str):
    with pytest.raises(ValueError, match=message):
        answer(f"program_{name}", "")


def test_a_program_that_spins_is_ended(programs: None):
    with pytest.raises(ValueError, match="takes too long"):
        answer("program_time", "")


def test_a_program_that_waits_is_ended(programs: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limited_process, "TIMEOUT_S", 1.0)
    with pytest.raises(ValueError, match="longer than 1 s"):
        answer("program_sleep", "")


def test_keys_of_the_environment_do_not_reach_it(programs: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "canary")
    assert "HF_TOKEN" not in answer("program_environ", "")
    assert "PYTHONPATH" in answer("program_environ", "")
