import pytest

from kinescribe.cluster.submission import (
    STOPPED_CODE,
    Attempt,
    SubmittedJob,
    exit_code,
    next_attempt,
    run_name,
)

RUN = run_name("label", {"input": "s3://b/clips", "out": "s3://b/out"})


def job(attempt, status, run=RUN, **values):
    return SubmittedJob(f"{run}-{attempt}", status, "python -m kinescribe label", **values)


def test_a_runs_name_does_not_depend_on_the_order_of_its_parameters():
    assert run_name("label", {"out": "s3://b/out", "input": "s3://b/clips"}) == RUN
    assert RUN.startswith("kinescribe-label-")


@pytest.mark.parametrize(
    "other",
    [
        ("curate", {"input": "s3://b/clips", "out": "s3://b/out"}),
        ("label", {"input": "s3://b/clips", "out": "s3://b/other"}),
        ("label", {"input": "s3://b/clips", "out": "s3://b/out", "config": {"seed": 1}}),
    ],
)
def test_another_command_parameter_or_configuration_is_another_run(other):
    assert run_name(*other) != RUN


@pytest.mark.parametrize("status", ["PENDING", "RUNNING"])
def test_a_run_that_is_running_is_attached_to(status):
    assert next_attempt(RUN, [job(1, "STOPPED"), job(2, status)]) == Attempt(f"{RUN}-2", is_new=False)


@pytest.mark.parametrize("status", ["STOPPED", "FAILED", "SUCCEEDED"])
def test_a_run_that_is_over_starts_again_under_a_new_id(status):
    assert next_attempt(RUN, [job(9, status), job(10, status)]) == Attempt(f"{RUN}-11", is_new=True)


def test_jobs_of_others_do_not_count():
    others = [
        job(7, "RUNNING", run="kinescribe-label-other"),
        job("7-8", "RUNNING"),
        SubmittedJob("raysubmit_x", "RUNNING", ""),
    ]
    assert next_attempt(RUN, others) == Attempt(f"{RUN}-1", is_new=True)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 2, 2),
        ("FAILED", -9, 137),
        ("FAILED", None, 1),
        ("STOPPED", None, STOPPED_CODE),
    ],
)
def test_the_exit_code_is_the_jobs_own_as_a_shell_would_give_it(status, code, expected):
    assert exit_code(job(1, status, exit_code=code)) == expected
