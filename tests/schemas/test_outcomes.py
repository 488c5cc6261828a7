import pickle

import pytest

from schemas.outcomes import ClipOutcome, DropReason, RejectCode, Rejected, Status


def test_a_reject_survives_the_way_between_processes():
    reject = pickle.loads(pickle.dumps(Rejected(RejectCode.TIMEOUT, "after 3 s")))
    assert (reject.code, reject.message, str(reject)) == (
        RejectCode.TIMEOUT,
        "after 3 s",
        "timeout: after 3 s",
    )


@pytest.mark.parametrize(
    ("status", "num_triplets", "reason"),
    [
        (Status.KEPT, 0, None),
        (Status.KEPT, 1, DropReason.STATIC),
        (Status.DROPPED, 0, None),
        (Status.DROPPED, 1, DropReason.STATIC),
        (Status.REJECTED, 0, None),
    ],
)
def test_an_outcome_cannot_contradict_itself(status: Status, num_triplets: int, reason: DropReason | None):
    with pytest.raises(AssertionError):
        ClipOutcome("id", status, num_triplets, reason)


def test_no_code_means_both_a_drop_and_a_reject():
    assert not set(map(str, RejectCode)) & set(map(str, DropReason))
