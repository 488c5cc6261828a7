import pickle
from collections import Counter
from pathlib import Path

import pytest

from kinescribe.schemas.outcomes import (
    FEWEST_CLIPS_TO_JUDGE,
    ClipOutcome,
    DropReason,
    Receipt,
    RejectCode,
    Rejected,
    Status,
    too_many_rejects,
)


def test_the_documentation_explains_each_code_and_reason():
    guide = (Path(__file__).parents[2] / "docs" / "guide" / "inspect.md").read_text()
    assert [one for one in (*RejectCode, *DropReason) if f"`{one}`" not in guide] == []


def test_a_reject_can_be_pickled():
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


def test_receipts_add_up():
    one = Receipt(1, 2, 3, 4, Counter(timeout=2, missing=1))
    both = one + Receipt(1, 1, 1, 1, Counter(timeout=1))
    assert both == Receipt(2, 3, 4, 5, Counter(timeout=3, missing=1))
    assert both.clips == 9


def rejected(count, kept=0):
    return Receipt(kept=kept, rejected=count, rejects=Counter(unreadable=count))


def test_a_few_rejects_do_not_end_a_run():
    assert too_many_rejects(rejected(FEWEST_CLIPS_TO_JUDGE - 1), 0.5) is None
    assert too_many_rejects(rejected(FEWEST_CLIPS_TO_JUDGE), 0.5) is not None


def test_the_maximal_rate_itself_is_allowed():
    assert too_many_rejects(rejected(50, kept=50), 0.5) is None
    assert too_many_rejects(rejected(51, kept=49), 0.5) is not None
    assert too_many_rejects(rejected(100), 1.0) is None


def test_the_error_says_how_to_allow_clips_outside_the_input():
    outside = Receipt(rejected=30, rejects=Counter({"forbidden": 30}))
    assert "--root" in str(too_many_rejects(outside, 0.5))
    assert "--root" not in str(too_many_rejects(rejected(30), 0.5))
