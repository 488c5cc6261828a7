from collections import Counter

import pyarrow as pa

from kinescribe.actors.metrics import Count, UnitCounters, counts
from kinescribe.schemas.outcomes import Receipt, StageTime

RECEIPT = Receipt(kept=2, dropped=1, rejected=3, triplets=5, rejects=Counter(unreadable=2, timeout=1))
TABLE = pa.table({"action_tokens": pa.array([4, None, 3], pa.int32())})
STAGES = [StageTime("decode", 1e9, 1.5, "node/7", 1.2), StageTime("label", 1e9, 0.5, "node/8", 0.4)]


def test_a_unit_adds_its_clips_pairs_tokens_rejects_and_seconds():
    assert list(counts(RECEIPT, TABLE, STAGES)) == [
        Count("clips", 2, {"status": "kept"}),
        Count("clips", 1, {"status": "dropped"}),
        Count("clips", 3, {"status": "rejected"}),
        Count("pairs", 5, {}),
        Count("tokens", 7, {}),
        Count("rejects", 2, {"code": "unreadable"}),
        Count("rejects", 1, {"code": "timeout"}),
        Count("stage_seconds", 1.5, {"stage": "decode"}),
        Count("stage_seconds", 0.5, {"stage": "label"}),
    ]


def test_a_unit_without_rows_is_counted():
    UnitCounters().add(Receipt(dropped=1), TABLE.slice(1, 1), [])
    assert sum(count.value for count in counts(Receipt(dropped=1), TABLE.slice(1, 1), [])) == 1
