"""Brings the colours of HDR video (PQ and HLG in BT.2020) to those of ordinary screens (BT.709).

The same curve for every frame, so that two frames of a pair stay comparable: what is at most as bright as
paper (203 cd/m², BT.2408) keeps its brightness, and brighter highlights are compressed up to white.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PQ, HLG = 16, 18
"""Transfer functions, by their numbers in ITU-T H.273."""
WHITE_CD_M2 = 203.0
"""Diffuse white in HDR (BT.2408)."""
HLG_PEAK_CD_M2, HLG_GAMMA = 1000.0, 1.2
"""Of the screen for which HLG is shown here, and its system gamma (BT.2100)."""
KNEE = 0.8
"""The share of white above which highlights are compressed."""
SCREEN_GAMMA = 2.4
"""BT.1886."""
LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)
"""Of BT.2020's red, green and blue."""
TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
"""From linear BT.2020 (BT.2087)."""


def tone_mapped(signal_HW3: NDArray[np.uint16], transfer: int) -> NDArray[np.uint8]:
    """Red, green and blue in BT.709, from those in BT.2020 with a transfer function; both full range."""
    signal = signal_HW3.astype(np.float32) / 65535
    light = (_pq(signal) if transfer == PQ else _hlg(signal)) / WHITE_CD_M2
    linear = np.maximum(light @ TO_BT709.T, 0)
    # The brightest of the three decides, so that compressed colours keep their hue.
    peak = np.maximum(linear.max(-1, keepdims=True), 1e-6)
    compressed = KNEE + (1 - KNEE) * np.tanh((peak - KNEE) / (1 - KNEE))
    shown = linear * np.where(peak > KNEE, compressed / peak, 1)
    return np.rint(255 * shown ** (1 / SCREEN_GAMMA)).astype(np.uint8)


def _pq(signal: NDArray[np.floating]) -> NDArray[np.floating]:
    """Light in cd/m² (SMPTE ST 2084)."""
    power = signal ** (32 / 2523)
    return 10_000 * (np.maximum(power - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * power)) ** (8192 / 1305)


def _hlg(signal: NDArray[np.floating]) -> NDArray[np.floating]:
    """Light in cd/m² (BT.2100)."""
    high = (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12
    scene = np.where(signal <= 0.5, signal**2 / 3, high)
    luminance = np.maximum(scene @ LUMINANCE, 1e-6)[..., None]
    return HLG_PEAK_CD_M2 * luminance ** (HLG_GAMMA - 1) * scene
