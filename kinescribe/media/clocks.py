"""The times of packets and decoded frames, from the timestamps that containers have or lack.

Knows nothing of files or decoders.
"""

from __future__ import annotations

import heapq
import math
from fractions import Fraction

from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

MAX_STEP_S = 10.0
"""The largest step forward of a clock that is one. A larger one is a jump, as ffmpeg has it."""
MAX_STEP_BACK_S = 0.1
"""The largest step back of a clock that didn't restart."""


class ContinuousClock:
    """Gives packets times that go on where their clock restarts, jumps or wraps, as in joined files.

    What comes after such a place follows what comes before it, by the time between two frames.
    """

    def __init__(self, tick_s: Fraction) -> None:
        self._most, self._least = int(MAX_STEP_S / tick_s), int(-MAX_STEP_BACK_S / tick_s)
        self._offset = 0
        self._step, self._delay = 1, 0
        """The last time between two packets, and from a packet's decoding to its presentation."""
        self._last: int | None = None
        self._latest = 0
        """The decoding time of the last packet, and the latest presentation time of all."""
        self.num_jumps = 0

    def correct(self, packet: Packet[VideoStream]) -> None:
        """Change the packet's decoding and presentation time to those of the one clock."""
        if packet.dts is None:
            if packet.pts is not None:
                packet.pts += self._offset
            return
        delay = self._delay if packet.pts is None else packet.pts - packet.dts
        if not 0 <= delay <= self._most:  # the presentation time is that of a packet after the place
            delay = self._delay
        if self._last is None:
            self._latest = packet.dts + delay - 1
        else:
            step = packet.dts + self._offset - self._last
            # A key frame is shown after all that was decoded before it.
            ahead = packet.dts + self._offset + delay - self._latest
            if not self._least <= step <= self._most or (packet.is_keyframe and ahead <= 0):
                self._offset += self._step - ahead
                self.num_jumps += 1
            elif step > 0:
                self._step = step
        self._last = packet.dts + self._offset
        self._latest = max(self._latest, self._last + delay)
        self._delay = delay
        packet.dts, packet.pts = self._last, self._last + delay


class PacketCount:
    """Counts the packets with an earlier presentation time than a decoded frame; all of them were read."""

    def __init__(self) -> None:
        self._pending: list[int] = []
        self._passed = 0

    def read(self, pts: int) -> None:
        heapq.heappush(self._pending, pts)

    def before(self, pts: int) -> int:
        while self._pending and self._pending[0] < pts:
            heapq.heappop(self._pending)
            self._passed += 1
        return self._passed


class PresentationClock:
    """Presentation times of frames in the order in which a decoder returns them.

    That is the presentation timestamp, unless presentation timestamps went backwards more often than
    decoding timestamps. libavcodec has it as `best_effort_timestamp`, which PyAV doesn't expose.
    """

    def __init__(self) -> None:
        self._last: list[float] = [-math.inf, -math.inf]
        self._faults = [0, 0]

    def presented(self, picture: VideoFrame) -> int | None:
        pts, dts = picture.pts, picture.dts
        for kind, ticks in enumerate((pts, dts)):
            if ticks is not None:
                self._faults[kind] += ticks <= self._last[kind]
                self._last[kind] = ticks
            elif self._last[kind] > -math.inf:
                self._faults[kind] += 1
        if pts is not None and (dts is None or self._faults[0] <= self._faults[1]):
            return pts
        return dts


class DecodingClock:
    """The same for files that have only decoding times.

    The times that libavformat derives are wrong for H.264 with B-frames. A codec that delays frames returns
    one when it reads the packet of a frame as many places later; the last frames come after all packets.
    """

    def __init__(self) -> None:
        self._last = -1

    def presented(self, picture: VideoFrame) -> int:
        expected = self._last + max(picture.duration, 1)
        self._last = expected if picture.dts is None else max(picture.dts, self._last + 1)
        return self._last
