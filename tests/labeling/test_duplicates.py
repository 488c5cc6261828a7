import numpy as np
import pytest

from kinescribe.labeling.duplicates import MIRRORED, Hashes, duplicate_groups


def scenes(num: int, seed: int = 0) -> Hashes:
    return np.random.default_rng(seed).integers(0, 2**64, (num, 3, 2), np.uint64)


def with_flips(hashes: Hashes, share: float, seed: int = 1) -> Hashes:
    """The hashes with this share of their bits flipped."""
    random = np.random.default_rng(seed)
    flips = np.packbits(random.random((*hashes.shape, 64)) < share, axis=-1).view(np.uint64)[..., 0]
    return hashes ^ flips


def same_group(first: Hashes, second: Hashes) -> np.ndarray:
    """For each row, whether it is in a group with its counterpart; all rows are of different clips."""
    rows = np.concatenate([first, second])
    groups = duplicate_groups(rows, np.arange(len(rows)))
    return groups[: len(first)] == groups[len(first) :]


def test_scenes_that_have_nothing_in_common_are_no_duplicates():
    assert len(set(duplicate_groups(scenes(2000), np.arange(2000)))) == 2000


@pytest.mark.parametrize(("share", "least"), [(0.0, 1.0), (0.02, 1.0), (0.08, 0.98)])
def test_copies_are_found_although_bits_differ(share: float, least: float):
    rows = scenes(1500)
    assert same_group(rows, with_flips(rows, share)).mean() >= least


def test_mirrored_copies_are_found():
    rows = scenes(500)
    assert same_group(rows, with_flips(rows, 0.02) ^ MIRRORED).all()


def test_another_motion_in_the_same_scene_is_no_duplicate():
    rows = scenes(500)
    others = rows.copy()
    others[:, 2] = scenes(500, seed=2)[:, 2]
    assert not same_group(rows, others).any()


def test_a_change_that_differs_more_than_the_frames_explain_is_another_motion():
    rows = scenes(300)
    others = rows.copy()
    others[:, 2, 0] ^= np.uint64(2**18 - 1)
    assert not same_group(rows, others).any()


def test_pairs_of_one_clip_are_no_duplicates():
    rows = np.repeat(scenes(1), 4, axis=0)
    assert len(set(duplicate_groups(rows, np.zeros(4, int)))) == 4
    assert len(set(duplicate_groups(rows, np.arange(4)))) == 1


def test_of_another_clip_only_the_closest_pair_is_a_duplicate():
    row = scenes(1)
    near, far = row.copy(), row.copy()
    near[:, 0, 0] ^= np.uint64(1)
    far[:, 0, 0] ^= np.uint64(7)
    groups = duplicate_groups(np.concatenate([row, near, far]), np.array([0, 1, 1]))
    assert groups[0] == groups[1] != groups[2]


def test_more_copies_than_are_compared_are_one_group():
    rows = np.repeat(scenes(3), 200, axis=0)
    groups = duplicate_groups(rows, np.arange(600))
    assert [len(set(groups[start : start + 200])) for start in (0, 200, 400)] == [1, 1, 1]
    assert len(set(groups)) == 3
