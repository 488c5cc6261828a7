import pytest
import torch

from kinescribe.labeling.batches import MicroBatches, first_size
from kinescribe.models.dynamics import Failure
from kinescribe.schemas.errors import ServerAway


class Recorder:
    """Doubles its items; raises `error` on a batch that holds `bad` or is longer than `room`."""

    def __init__(self, bad: int | None = None, room: int = 100, error: Exception | None = None) -> None:
        self.bad, self.room, self.error = bad, room, error or ValueError("no")
        self.batches: list[list[int]] = []

    def __call__(self, items):
        self.batches.append(list(items))
        if self.bad in items or len(items) > self.room:
            raise self.error
        return [2 * item for item in items]


def test_items_are_passed_in_order_in_batches_of_the_size():
    call = Recorder()
    assert MicroBatches(3).run(range(7), call) == [0, 2, 4, 6, 8, 10, 12]
    assert call.batches == [[0, 1, 2], [3, 4, 5], [6]]


def test_items_of_similar_length_share_a_batch_and_results_keep_their_order():
    lengths, call = [3, 90, 5, 3, 88, 90, 5], Recorder()
    assert MicroBatches(3).run(range(7), call, lengths.__getitem__) == [0, 2, 4, 6, 8, 10, 12]
    assert call.batches == [[1, 5, 4], [2, 6, 0], [3]]


def test_a_gpu_starts_with_more_than_a_cpu_unless_a_size_was_asked_for():
    assert first_size(None, on_gpu=True) > first_size(None, on_gpu=False)
    assert {first_size(3, on_gpu=True), first_size(3, on_gpu=False)} == {3}


def test_a_failing_batch_is_halved_until_the_failing_item_is_alone():
    call = Recorder(bad=5)
    results = MicroBatches(8).run(range(8), call)
    assert results == [0, 2, 4, 6, 8, Failure("ValueError: no"), 12, 14]
    assert [5] in call.batches


@pytest.mark.parametrize("error", [ValueError("no"), RuntimeError("shapes cannot be multiplied")])
def test_an_ordinary_failure_leaves_the_size(error):
    batches = MicroBatches(8)
    batches.run(range(8), Recorder(bad=0, error=error))
    assert batches.size == 8


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
        MemoryError(),
    ],
)
def test_out_of_memory_halves_the_size_for_good(error):
    batches, call = MicroBatches(8), Recorder(room=2, error=error)
    assert batches.run(range(16), call) == [2 * item for item in range(16)]
    assert batches.size == 2
    later = Recorder(room=2, error=error)
    assert batches.run(range(4), later) == [0, 2, 4, 6]
    assert later.batches == [[0, 1], [2, 3]]


def test_a_size_that_was_lowered_never_grows_back():
    def call(items):
        if sum(items) > 4:
            raise MemoryError
        return items

    batches = MicroBatches(8)
    assert batches.run([4, 4, 1, 1, 2, 2, 2, 2], call) == [4, 4, 1, 1, 2, 2, 2, 2]
    assert batches.size == 1


def test_an_item_that_is_too_large_alone_fails_alone():
    batches, call = MicroBatches(4), Recorder(bad=1, error=torch.OutOfMemoryError("out of memory"))
    results = batches.run(range(4), call)
    assert [type(result) is Failure for result in results] == [False, True, False, False]
    assert batches.size == 1


def test_a_keyboard_interrupt_is_not_a_failure_of_an_item():
    def interrupted(items):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        MicroBatches(2).run([1], interrupted)


def test_a_server_that_stays_away_fails_no_item():
    call = Recorder(bad=5, error=ServerAway("away"))
    with pytest.raises(ServerAway):
        MicroBatches(8).run(range(8), call)
    assert call.batches == [list(range(8))]
