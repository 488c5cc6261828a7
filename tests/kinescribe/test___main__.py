import subprocess
import sys


def test_python_m_kinescribe_is_the_command_line():
    done = subprocess.run(
        [sys.executable, "-m", "kinescribe", "--help"], capture_output=True, text=True, check=True
    )
    for command in ("label", "status", "check", "report", "train"):
        assert command in done.stdout
