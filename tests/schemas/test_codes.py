import pytest

from kinescribe.schemas.codes import FITS, Fit, codec_id, fit_of, same_network


@pytest.mark.parametrize("fit", FITS)
def test_an_id_of_codes_says_how_pictures_were_fitted(fit: Fit):
    assert fit_of(codec_id("vq-0123", fit)) == fit
    assert same_network("vq-0123", codec_id("vq-0123", fit))
    assert not same_network("vq-4567", codec_id("vq-0123", fit))


def test_the_ids_of_earlier_versions_are_those_of_crops():
    assert codec_id("vq-0123", "crop") == "vq-0123"


def test_a_model_without_codes_has_no_network_in_common():
    assert not same_network(None, None)
    assert not same_network("vq-0123", None)
