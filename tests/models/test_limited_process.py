"""The limits of the process in which templates and tokenizers are tried."""

import pytest

from kinescribe.models import limited_process
from kinescribe.models.limited_process import answer

PROGRAMS = {
    "environ": "import os; print(sorted(os.environ))",
    "memory": "from kinescribe.models.limited_process import limit; limit(); bytearray(4 << 30)",
    "time": "from kinescribe.models.limited_process import limit; limit()\nwhile True: pass",
    "output": "from kinescribe.models.limited_process import limit; limit(); print('a' * (8 << 20))",
    "sleep": "import time; time.sleep(60)",
}


@pytest.fixture
def programs(tmp_path, monkeypatch):
    for name, text in PROGRAMS.items():
        (tmp_path / f"program_{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(limited_process, "PROCESSOR_S", 2)
    monkeypatch.setattr(limited_process, "TIMEOUT_S", 15.0)
    answer.cache_clear()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("memory", "MemoryError"),
        ("output", "File too large"),
        ("sleep", "longer than 15 s"),
        ("absent", "No module named"),
    ],
)
def test_a_program_that_needs_too_much_is_ended_with_the_reason(programs: None, name: str, message: str):
    with pytest.raises(ValueError, match=message):
        answer(f"program_{name}", "")


def test_a_program_that_spins_is_ended(programs: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limited_process, "TIMEOUT_S", 60.0)
    with pytest.raises(ValueError, match="takes longer than"):
        answer("program_time", "")


def test_keys_of_the_environment_do_not_reach_it(programs: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "canary")
    assert "HF_TOKEN" not in answer("program_environ", "")
    assert "PYTHONPATH" in answer("program_environ", "")
