import itertools

from hypothesis import given
from hypothesis import strategies as st

from kinescribe.media.keyframes import Candidates, Moment, select
from kinescribe.schemas.config import KeyFrames

motions = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.5]) | st.floats(0, 10), max_size=80)
configs = st.builds(KeyFrames, max_keyframes=st.integers(2, 7), min_interval=st.integers(1, 25))


def moments_of(motion: list[float], rate: float = 30.0) -> list[Moment]:
    return [Moment(index, index / rate, value) for index, value in enumerate(motion)]


@given(motions, configs)
def test_key_frames_keep_their_distance_and_their_number(motion: list[float], config: KeyFrames):
    chosen = select(moments_of(motion), config)
    assert chosen == sorted(set(chosen))
    assert len(chosen) <= config.max_keyframes
    assert all(later - earlier >= config.min_interval for earlier, later in itertools.pairwise(chosen))


@given(motions, configs)
def test_a_frame_is_left_out_only_near_one_with_as_much_motion_or_beyond_the_number(
    motion: list[float], config: KeyFrames
):
    chosen = select(moments_of(motion), config)
    full = len(chosen) == config.max_keyframes
    for index in set(range(len(motion))) - set(chosen):
        near = [one for one in chosen if abs(one - index) < config.min_interval]
        beaten = any(motion[one] >= motion[index] for one in near)
        has_room = max(index, len(motion) - 1 - index) >= config.min_interval
        assert beaten or (full and all(motion[one] >= motion[index] for one in chosen)) or not has_room


@given(motions, configs)
def test_two_frames_that_are_far_enough_apart_always_make_a_pair(motion: list[float], config: KeyFrames):
    assert (len(select(moments_of(motion), config)) > 1) == (len(motion) > config.min_interval)


def test_the_strongest_frame_in_the_middle_leaves_room_for_no_pair_and_is_passed_over():
    motion = [1.0 + (index == 15) * 9 + (index == 25) for index in range(31)]
    assert select(moments_of(motion), KeyFrames(min_interval=20)) == [0, 25]


def test_seconds_are_enough_where_frames_are_rare():
    motion = [float(index % 4 == 0) for index in range(20)]
    chosen = select(moments_of(motion, rate=1.0), KeyFrames(min_interval=20, min_interval_s=2.0))
    assert chosen == [0, 2, 4, 8, 12, 16]


@given(motions, configs, st.integers(1, 9))
def test_frames_that_are_dropped_early_would_not_have_been_chosen(
    motion: list[float], config: KeyFrames, every: int
):
    candidates = Candidates(config)
    for index, value in enumerate(motion):
        candidates.add(Moment(index, index / 30, value))
        if index % every == 0:
            candidates.left()
    assert candidates.chosen() == select(moments_of(motion), config)


def test_ties_go_to_the_earlier_frame():
    assert select(moments_of([1.0] * 50), KeyFrames(max_keyframes=2, min_interval=20)) == [0, 20]


def test_the_held_frames_do_not_grow_with_the_clip():
    config = KeyFrames()
    candidates = Candidates(config)
    held: list[int] = []
    for index in range(5_000):
        candidates.add(Moment(index, index / 30, index * 7919 % 1009))
        held.append(len(candidates.left()))
    assert max(held) < 10 * config.min_interval
