"""Finds the descendants of a process by command line, while some of them end."""

import re
from contextlib import suppress

import psutil


def below(pid: int, pattern: str) -> list[psutil.Process]:
    """The descendants of `pid` with the pattern in their command line."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if re.search(pattern, " ".join(process.cmdline())):
                    found.append(process)
    return found
