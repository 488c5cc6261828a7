"""How pictures become the squares that a codec sees, and the ids of codes.

Knows neither pictures nor networks.
"""

from __future__ import annotations

from typing import Literal, get_args

Fit = Literal["crop", "pad", "stretch"]
"""What happens to a picture that isn't square: the shorter side is scaled to the square and the middle kept;
the longer side is scaled to it and bars are added; or both sides are scaled to it."""
FITS: tuple[Fit, ...] = get_args(Fit)


def codec_id(network_id: str, fit: Fit) -> str:
    """The id of the codes that a network computes of pictures that are fitted so."""
    return network_id if fit == "crop" else f"{network_id}-{fit}"


def fit_of(codec_id: str) -> Fit:
    """How the pictures behind codes were fitted."""
    for fit in FITS:
        if codec_id.endswith(f"-{fit}"):
            return fit
    return "crop"


def same_network(one: str | None, other: str | None) -> bool:
    """Whether codes of these ids are of one network, however their pictures were fitted."""
    return one is not None and other is not None and _network(one) == _network(other)


def _network(codec_id: str) -> str:
    return codec_id.removesuffix(f"-{fit_of(codec_id)}")
