"""Submits, lists, follows and stops jobs on a running cluster, through its job server.

Sends the code and the command line, but no environment variables, because the server shows them to everybody
who may ask it. Knows nothing of what a command does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient

from kinescribe.cluster.code_package import write_package
from kinescribe.cluster.submission import Attempt, SubmittedJob, next_attempt
from kinescribe.schemas.errors import ConfigError
from kinescribe.storage.credentials import holds_credentials

POLL_S = 0.5
STOP_TIMEOUT_S = 60.0
CANNOT_CONNECT = "Failed to connect to Ray"
ANSWER_TIMEOUT_S = 30.0
"""Ray's own client would wait for ever."""


class Client(JobSubmissionClient):
    """Ray's client, with a timeout."""

    def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
        return super()._do_request(method, endpoint, timeout=ANSWER_TIMEOUT_S, **options)


class NoAnswer(ConfigError):
    """A cluster didn't answer, perhaps only for a moment."""


class Jobs:
    """The jobs of the cluster with its dashboard at `address`. Raises ConfigError if it can't be reached."""

    patience_s = 60.0
    """How long a cluster that stops answering is asked again while a job is followed."""
    pending_s = 20.0
    """How long a followed job may wait for its start before the reason is shown."""

    def __init__(self, address: str) -> None:
        if "@" in address or holds_credentials(address):
            raise ConfigError(
                "the address of a cluster must not contain a password; give the URL of its dashboard, and "
                "where it asks for a token set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH"
            )
        if not address.startswith(("http://", "https://")):
            raise ConfigError(
                f"{address} is not the URL of a cluster's dashboard; give one, like http://127.0.0.1:8265, "
                "by --address, RAY_API_SERVER_ADDRESS or RAY_ADDRESS"
            )
        # Ray prefers the environment to the argument.
        os.environ["RAY_API_SERVER_ADDRESS"] = self.address = address
        # They log every upload and every connection that ends.
        for name in ("dashboard_sdk", "job.sdk"):
            logging.getLogger(f"ray.dashboard.modules.{name}").setLevel(logging.WARNING)
        with self._translated_errors():
            try:
                self.client = Client(address)
            except RuntimeError as error:  # the server knows no version of Ray
                raise ConnectionError("the server there isn't a dashboard of Ray") from error

    def list(self) -> list[SubmittedJob]:
        """Every submitted job, oldest first."""
        with self._translated_errors():
            jobs = [_job(details) for details in self.client.list_jobs() if details.submission_id]
        return sorted(jobs, key=lambda job: job.started or "")

    def get(self, submission_id: str) -> SubmittedJob:
        """The current state of a job."""
        with self._translated_errors():
            return _job(self.client.get_job_info(submission_id))

    def submit(self, run: str, arguments: Sequence[str], config: str | None, gpus: int = 0) -> Attempt:
        """Start `kinescribe ARGUMENTS` as an attempt at the run, unless an attempt is running.

        The command's own process claims `gpus`; if it claims none, it runs on the head.
        """
        attempt = next_attempt(run, self.list())
        if not attempt.is_new:
            return attempt
        with tempfile.TemporaryDirectory(prefix="kinescribe-") as folder:
            package = write_package(Path(folder, "code.zip"), config)
            with self._translated_errors():
                try:
                    self.client.submit_job(
                        entrypoint=shlex.join(["python", "-m", "kinescribe", *arguments]),
                        runtime_env={"working_dir": str(package)},
                        submission_id=attempt.submission_id,
                        entrypoint_num_gpus=gpus or None,
                    )
                except RuntimeError as error:
                    if "already exists" not in str(error):
                        raise
                    return replace(attempt, is_new=False)  # somebody else submitted it at the same moment
        return attempt

    def logs(self, submission_id: str) -> str:
        """What the job has printed."""
        self._require(submission_id)
        with self._translated_errors():
            return self.client.get_job_logs(submission_id)

    def follow(
        self, submission_id: str, write: Callable[[str], object], note: Callable[[str], object]
    ) -> SubmittedJob:
        """Pass on what the job prints until it is over, and reconnect when a connection breaks.

        `note` gets the reason if the job takes long to start. Raises ConfigError if the cluster doesn't
        answer for `patience_s`; the job may go on.
        """
        self._require(submission_id)
        began = answered = time.monotonic()
        num_shown, started, noted = 0, False, False
        while True:
            if started:  # the log begins with the start
                num_shown = asyncio.run(self._tail(submission_id, write, num_shown))
            try:
                job, answered = self.get(submission_id), time.monotonic()
            except NoAnswer as error:
                if time.monotonic() - answered > self.patience_s:
                    raise ConfigError(
                        f"{error}; {submission_id} may go on; `kinescribe jobs logs --follow "
                        f"{submission_id}` follows it again"
                    ) from error
            else:
                if started and job.is_over:
                    return job
                started = job.status != "PENDING"
                if not (started or noted) and answered - began > self.pending_s:
                    note(job.message or f"{submission_id} has not started yet")
                    noted = True
            time.sleep(POLL_S)

    def stop(self, submission_id: str) -> SubmittedJob:
        """End the job and wait until it is over. Does nothing to a job that is over already."""
        self._require(submission_id)
        with self._translated_errors():
            self.client.stop_job(submission_id)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while not (job := self.get(submission_id)).is_over:
            if time.monotonic() > deadline and job.status == "PENDING":
                raise ConfigError(
                    f"{submission_id} has not started, and Ray can stop only jobs that have; it gives up "
                    "this job 15 minutes after it was submitted"
                )
            if time.monotonic() > deadline:
                raise ConfigError(f"{submission_id} is still {job.status}; look at it at {self.address}")
            time.sleep(POLL_S)
        return job

    def _require(self, submission_id: str) -> None:
        """Raises ConfigError if there is no such job; in a URL, some ids would mean something else."""
        if submission_id not in {job.submission_id for job in self.list()}:
            raise ConfigError(
                f"{submission_id!r} is not a job of the cluster at {self.address}; give an id that "
                "`kinescribe jobs list` shows"
            )

    async def _tail(self, submission_id: str, write: Callable[[str], object], num_shown: int) -> int:
        """Pass on the log after its first `num_shown` characters, and return its length."""
        position = 0
        try:
            async for text in self.client.tail_job_logs(submission_id):
                write(text[max(0, num_shown - position) :])
                position += len(text)
        except (RuntimeError, aiohttp.ClientError):  # the next request shows whether the cluster is there
            pass
        return max(num_shown, position)

    @contextmanager
    def _translated_errors(self) -> Generator[None]:
        """Turns the exceptions of Ray's client into errors for the user."""
        try:
            yield
        except AuthenticationError as error:
            raise ConfigError(
                f"the cluster at {self.address} asks for its token: {error.message.splitlines()[0]}; set "
                "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the file with the cluster's token "
                "(RAY_AUTH_TOKEN, if it is set, has precedence)"
            ) from error
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"the token cannot be read: {error}; set RAY_AUTH_TOKEN_PATH to the file with the "
                "cluster's token"
            ) from error
        except (OSError, KeyError) as error:
            text = str(error).rstrip(".")
            why = "" if text.startswith(CANNOT_CONNECT) else f": {text}"  # it says only the address again
            raise NoAnswer(
                f"no cluster answers at {self.address}{why}; check that it runs, that this is the URL of "
                "its dashboard and that you can reach it, or give another --address"
            ) from error
        except RuntimeError as error:
            # Ray's server sends its traceback.
            raise ConfigError(
                f"the cluster at {self.address} refuses: {str(error).splitlines()[-1]}"
            ) from error


def _job(details: JobDetails) -> SubmittedJob:
    assert details.submission_id
    return SubmittedJob(
        submission_id=details.submission_id,
        status=str(details.status),
        command=details.entrypoint,
        started=_time(details.start_time),
        ended=_time(details.end_time),
        exit_code=details.driver_exit_code,
        message=details.message,
    )


def _time(milliseconds: int | None) -> str | None:
    if not milliseconds:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
