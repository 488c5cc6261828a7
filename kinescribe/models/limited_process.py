"""Runs a module of ours on data from a model's folder in a process with limits on memory, time and output.

Text goes in and comes out. The process sees none of our environment variables but those that Python needs.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

TIMEOUT_S = 60.0
"""With the start of Python, which takes seconds on a busy machine."""
PROCESSOR_S = 10
"""The largest tokenizers take three to load."""
MEMORY_BYTES = 1 << 30
MAX_OUTPUT_BYTES = 1 << 20
MAX_REASON = 200
ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")


@lru_cache(maxsize=8)
def answer(module: str, request: str) -> str:
    """What `python -m MODULE` prints for a request on stdin. Raises ValueError with the reason."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        try:
            ended = subprocess.run(
                [sys.executable, "-m", module],
                input=request.encode(),
                stdout=output,
                stderr=errors,
                env=_environment(),
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ValueError(f"it takes longer than {TIMEOUT_S:g} s") from None
        output.seek(0)
        errors.seek(0)
        if ended.returncode < 0:
            raise ValueError(f"it takes too long, or more than {MEMORY_BYTES:,} bytes")
        if ended.returncode:
            reason = errors.read().decode(errors="replace").strip().rpartition("\n")[2]
            raise ValueError(reason[:MAX_REASON] or "it fails")
        return output.read().decode()


def limit(processor_s: int = PROCESSOR_S) -> None:
    """Limit this process, which has imported what it needs."""
    used_s = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    resource.setrlimit(resource.RLIMIT_CPU, (used_s + processor_s, used_s + processor_s))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_OUTPUT_BYTES, MAX_OUTPUT_BYTES))
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    path = os.pathsep.join(str(Path(entry or ".").absolute()) for entry in sys.path)
    return {**kept, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
