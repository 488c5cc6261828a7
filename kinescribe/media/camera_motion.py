"""Measures how the camera moved between two pictures, by a homography between points that both show.

Knows nothing of actions.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from kinescribe.media.still_images import Rgb, shrunk

SIDE = 512
"""The longer side of the pictures in which points are sought."""
MOST_POINTS, CONTRAST = 1500, 0.01
DISTINCT = 0.75
"""A match's distance relative to that of the second nearest point (Lowe's ratio test)."""
REPROJECTION_PX = 3.0
LEAST_POINTS, LEAST_SHARE = 20, 0.4
"""Of the matches that one homography explains. Fewer may be an object's."""
LEAST_COVERED = 0.25
"""What moves as one is the background if its points cover so much of what both pictures show."""
MOST_ZOOM = 5.0


class CameraMotion(NamedTuple):
    """What became of the middle of the first picture."""

    dx: float
    dy: float
    """How far it moved to the right and down, as a share of the width and the height."""
    zoom: float
    """By how much it was enlarged."""
    roll_deg: float
    """How far it was turned clockwise."""


def camera_motion(source: Rgb, target: Rgb) -> CameraMotion | None:
    """The motion, None if it can't be measured: too little texture, or no motion of the whole picture."""
    small = shrunk(source, SIDE)
    height, width = small.shape[:2]
    found = _matches(small, shrunk(target, SIDE))
    if found is None:
        return None
    source_N2, target_N2 = found
    cv2.setRNGSeed(0)
    result: Any = cv2.findHomography(source_N2, target_N2, cv2.RANSAC, REPROJECTION_PX)
    matrix, mask = result
    if matrix is None:
        return None
    inliers_N2 = source_N2[mask.ravel() > 0]
    if len(inliers_N2) < max(LEAST_POINTS, LEAST_SHARE * len(source_N2)):
        return None
    motion = _at_the_middle(matrix, width, height)
    if motion is None or _covered(inliers_N2, motion, width, height) < LEAST_COVERED:
        return None
    return motion


def _matches(source: Rgb, target: Rgb) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    sift: Any = cv2.SIFT_create(MOST_POINTS, contrastThreshold=CONTRAST)  # pyright: ignore[reportAttributeAccessIssue]
    points, descriptors = zip(
        *(sift.detectAndCompute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None) for image in (source, target)),
        strict=True,
    )
    if any(len(found) < LEAST_POINTS for found in points):
        return None
    pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(*descriptors, k=2)
    matches = [best for best, second in pairs if best.distance < DISTINCT * second.distance]
    if len(matches) < LEAST_POINTS:
        return None
    source_N2 = np.array([points[0][match.queryIdx].pt for match in matches], np.float32)
    return source_N2, np.array([points[1][match.trainIdx].pt for match in matches], np.float32)


def _covered(points_N2: NDArray[np.float32], motion: CameraMotion, width: int, height: int) -> float:
    """The share that the points, without those farthest out, cover of what both pictures show."""
    low, high = np.percentile(points_N2, (10, 90), axis=0)
    shown = np.array([1 - abs(motion.dx), 1 - abs(motion.dy)]) * (width, height) / max(1.0, motion.zoom)
    return float(np.prod((high - low) / np.maximum(shown, 1)))


def _at_the_middle(matrix: NDArray[np.float64], width: int, height: int) -> CameraMotion | None:
    """The homography as a shift, a zoom and a turn, which is what it is at one point."""
    middle = np.array([width / 2, height / 2, 1.0])
    x, y, scale = matrix @ middle
    if abs(scale) < 1e-6:
        return None
    mapped = np.array([x, y]) / scale
    slope_22 = (matrix[:2, :2] - np.outer(mapped, matrix[2, :2])) / scale
    area = float(np.linalg.det(slope_22))
    if not MOST_ZOOM**-2 < area < MOST_ZOOM**2:
        return None
    roll = math.degrees(math.atan2(slope_22[1, 0] - slope_22[0, 1], slope_22[0, 0] + slope_22[1, 1]))
    dx, dy = (mapped - middle[:2]) / (width, height)
    return CameraMotion(float(dx), float(dy), math.sqrt(area), roll)
