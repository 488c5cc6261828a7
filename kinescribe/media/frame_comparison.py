"""Whether a stored picture is the frame of its time: it resembles that more than the frames around it.

Pictures are compared small, in grey, and with the brightness and contrast of one fitted to the other, because
two decoders convert colours and scale in different ways. Knows nothing of files or decoders.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from kinescribe.media.still_images import Rgb

SIDE = 160
"""Longer side on which pictures are compared; the noise of JPEG averages out."""
NOISE = 0.1
"""Grey levels of 255 by which a neighbour may be closer, as of a frame that is shown twice."""
NOISE_SHARE = 0.1
"""The same as a share of its difference."""
MAX_GAIN = 4.0
"""By which contrast is fitted, either way."""
ALIKE_LEVELS = 2.0
"""Differences up to this are one picture."""
ALIKE_SHARE = 0.25
"""So are those up to this share of the picture's contrast. Between two decoders they were up to 0.18."""
TONE_MAPPED_SHARE = 0.5
"""The same for a picture of high dynamic range, which the second decoder doesn't tone-map: up to 0.31."""
Grey = NDArray[np.float32]


@dataclass(frozen=True)
class StoredPicture:
    """A stored picture in small grey levels of shape (height, width), to which frames are compared.

    Differences up to `alike_share` of its contrast are small.
    """

    grey: Grey
    alike_share: float

    @classmethod
    def of(cls, rgb: Rgb, alike_share: float = ALIKE_SHARE) -> StoredPicture:
        """The picture, made small."""
        height, width = rgb.shape[:2]
        scale = min(1.0, SIDE / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return cls(_grey(rgb, size), alike_share)

    def difference(self, frame: Rgb) -> float:
        """The root mean square of what a frame of any size doesn't explain of the picture, in grey levels."""
        stored, other = self.grey - self.grey.mean(), _grey(frame, self.grey.shape[::-1])
        other = other - other.mean()
        power = float((other * other).mean())
        gain = float((stored * other).mean()) / power if power > 0 else 1.0
        gain = min(max(gain, 1 / MAX_GAIN), MAX_GAIN)  # or a flat picture would be like any frame
        return float(np.sqrt(np.square(stored - gain * other).mean()))

    def is_like(self, own: float, others: Iterable[float] = ()) -> bool:
        """Whether the difference to its own frame is small, and not larger than those to other frames."""
        closest = min(others, default=np.inf)
        is_closest = own <= closest * (1 + NOISE_SHARE) + NOISE
        return is_closest and own <= max(ALIKE_LEVELS, self.alike_share * float(self.grey.std()))


def _grey(rgb: Rgb, size: tuple[int, ...]) -> Grey:
    grey: Any = cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
    return np.asarray(grey, np.float32)
