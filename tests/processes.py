"""What a process started, by command line, while some of it ends."""

import re
from contextlib import suppress

import psutil


def below(pid: int, pattern: str) -> list[psutil.Process]:
    """The processes that `pid` started, and they in turn, whose command line has the pattern somewhere."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if re.search(pattern, " ".join(process.cmdline())):
                    found.append(process)
    return found
