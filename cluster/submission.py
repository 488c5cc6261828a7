"""Identifies the job of a command line: its name on the cluster, whether to attach to it, its exit code.

Functions of frozen data. Knows nothing of Ray but its words for a job's status.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from kinescribe.schemas.clips import stable_id
from kinescribe.schemas.version import VERSION

OVER = ("SUCCEEDED", "FAILED", "STOPPED")
STOPPED_CODE = 143
"""A shell's code for a process that SIGTERM ended. Ray stops jobs by SIGTERM."""


@dataclass(frozen=True, slots=True)
class SubmittedJob:
    """A job as the cluster's server describes it, with times in ISO 8601 and UTC."""

    submission_id: str
    status: str
    command: str
    started: str | None = None
    ended: str | None = None
    exit_code: int | None = None
    message: str | None = None

    COLUMNS: ClassVar = ("id", "status", "started", "command")

    @property
    def row(self) -> tuple[str, ...]:
        """The job as a line of a table with `COLUMNS`."""
        return self.submission_id, self.status, self.started or "", self.command

    @property
    def is_over(self) -> bool:
        return self.status in OVER


@dataclass(frozen=True, slots=True)
class Attempt:
    """The job of a run: a new one, or the one that is running."""

    submission_id: str
    is_new: bool


def run_name(command: str, parameters: Mapping[str, Any]) -> str:
    """The name of the run of a command with these parameters, whatever their order."""
    values = json.dumps(parameters, sort_keys=True, default=str)
    return f"kinescribe-{command}-{stable_id(VERSION, command, values)[:16]}"


def next_attempt(run: str, jobs: Sequence[SubmittedJob]) -> Attempt:
    """The run's attempt that isn't over, else a new one with a new id: a cluster accepts an id only once.

    A run that succeeded gets a new attempt too. Its dataset may have moved or its input may have grown since,
    and the command finds out in seconds what is left to do.
    """
    attempts: dict[int, SubmittedJob] = {}
    for job in jobs:
        if number := re.fullmatch(re.escape(run) + r"-(\d+)", job.submission_id):
            attempts[int(number[1])] = job
    for _, job in sorted(attempts.items(), reverse=True):
        if not job.is_over:
            return Attempt(job.submission_id, is_new=False)
    return Attempt(f"{run}-{max(attempts, default=0) + 1}", is_new=True)


def exit_code(job: SubmittedJob) -> int:
    """The exit code of a job that is over, as a shell would give it."""
    if job.status == "STOPPED":
        return STOPPED_CODE
    if job.exit_code is None:  # it never started
        return 0 if job.status == "SUCCEEDED" else 1
    return job.exit_code if job.exit_code >= 0 else 128 - job.exit_code
