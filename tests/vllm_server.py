"""The real vLLM for tests, on CPUs, in the environment that `make vllm` makes."""

import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.ports import free_ports

ENVIRONMENT = Path(__file__).parent.parent / ".vllm"
START_S = 900.0
"""A minute on two cores that nothing else uses."""
LENGTH = 2048
"""In tokens, of the longest conversation."""


def require_vllm() -> None:
    """Skip the test if there is no vLLM."""
    if not (ENVIRONMENT / "installed").is_file():
        pytest.skip("no vLLM in .vllm; `make vllm` installs it")


@dataclass
class VllmServer:
    """A server of the checkpoint in `folder`, which is started and ended any number of times."""

    folder: Path
    log: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def name(self) -> str:
        """What `--dynamics` takes."""
        return f"tiny@{self.url}"

    def start(self) -> None:
        """Start it without waiting for it."""
        command = [ENVIRONMENT / "bin" / "python", "-m", "vllm.entrypoints.cli.main", "serve", self.folder]
        command += ["--served-model-name", "tiny", "--host", "127.0.0.1", "--port", self.port]
        command += ["--dtype", "float32", "--enforce-eager", "--distributed-executor-backend", "uni"]
        command += ["--max-model-len", LENGTH, "--max-num-seqs", 8, "--limit-mm-per-prompt", '{"image": 2}']
        ours = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
        ours |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1", "VLLM_LOGGING_LEVEL": "INFO"}
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(
                [*map(str, command)],
                stdout=stream,
                stderr=stream,
                env=os.environ | ours,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Return when it answers."""
        deadline = time.monotonic() + START_S
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/models").close()
                return
            except OSError:
                assert self.process is not None
                assert self.process.poll() is None, self.errors()
                assert time.monotonic() < deadline, self.errors()
                time.sleep(0.2)

    def kill(self) -> None:
        """End it and its workers at once, as a crash would."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def errors(self) -> str:
        """The end of what it wrote."""
        return self.log.read_text(errors="replace")[-6000:]


@contextmanager
def vllm_server(folder: Path, logs: Path) -> Iterator[VllmServer]:
    """vLLM with the checkpoint in `folder`; it writes to a log in `logs`."""
    require_vllm()
    server = VllmServer(folder, logs / "vllm.log")
    server.start()
    try:
        server.wait()
        yield server
    finally:
        server.kill()
