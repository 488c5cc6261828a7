import numpy as np
import pytest

from kinescribe.media.tone_mapping import HLG, PQ, tone_mapped


def shown(signal: float, transfer: int) -> int:
    """The grey level of a grey signal between 0 and 1."""
    grey = np.full((1, 1, 3), round(65535 * signal), np.uint16)
    levels = np.unique(tone_mapped(grey, transfer))
    assert len(levels) <= 2  # the matrix is rounded
    return int(levels[0])


@pytest.mark.parametrize(
    ("transfer", "signal", "nits"),
    # BT.2408: 18 % grey and diffuse white; ST 2084 and BT.2100 for the darker ones.
    [(PQ, 0.0, 0), (PQ, 0.38, 26), (PQ, 0.50, 92.2), (HLG, 0.0, 0), (HLG, 0.38, 26.4)],
)
def test_what_is_darker_than_paper_keeps_its_brightness(transfer: int, signal: float, nits: float):
    assert abs(shown(signal, transfer) - 255 * (nits / 203) ** (1 / 2.4)) <= 2


@pytest.mark.parametrize(("transfer", "white"), [(PQ, 0.58), (HLG, 0.75)])
def test_paper_is_nearly_white_and_highlights_are_brighter_still(transfer: int, white: float):
    assert 245 <= shown(white, transfer) < 255
    assert shown(1.0, transfer) == 255


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_brighter_is_never_darker(transfer: int):
    levels = [shown(signal, transfer) for signal in np.linspace(0, 1, 200)]
    assert levels == sorted(levels)
    assert len(set(levels)) > 100


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_a_colour_that_is_too_bright_keeps_its_hue(transfer: int):
    signal = np.array([[[0.8, 0.72, 0.68]]]) * 65535
    red, green, blue = tone_mapped(signal.astype(np.uint16), transfer)[0, 0]
    assert red == 255
    assert red > green > blue


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_each_pixel_is_mapped_by_itself(transfer: int):
    signal = np.random.default_rng(0).integers(0, 1 << 16, (2, 4, 3), np.uint16)
    mapped = tone_mapped(signal, transfer)
    assert (mapped.shape, mapped.dtype) == (signal.shape, np.uint8)
    for place in np.ndindex(2, 4):
        alone = tone_mapped(signal[place][None, None], transfer)[0, 0]
        np.testing.assert_allclose(alone, mapped[place], atol=1)
