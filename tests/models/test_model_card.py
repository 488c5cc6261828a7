from pathlib import Path

import pytest

from kinescribe.models.checkpoint_files import EMBEDDED, usual_likelihoods
from kinescribe.models.model_card import CARD, write_card
from kinescribe.schemas.errors import ModelError
from kinescribe.schemas.likelihoods import NUM_BINS

COUNTS = tuple(range(NUM_BINS))


def test_a_written_card_is_read_back(tmp_path: Path):
    write_card(tmp_path, COUNTS)
    assert usual_likelihoods(str(tmp_path)) == COUNTS
    assert f"counts {sum(COUNTS):,} of its held-out" in (tmp_path / CARD).read_text().replace("\n", " ")


def test_the_embedded_model_says_what_is_usual():
    assert sum(usual_likelihoods("embedded") or ()) > 1000
    assert usual_likelihoods("embedded-world") is None
    assert EMBEDDED["embedded"].joinpath(CARD).is_file()


@pytest.mark.parametrize("text", [None, "", "# A model", "---\nlicense: mit\n---\n", "no --- front matter"])
def test_a_model_without_such_a_card_says_nothing(tmp_path: Path, text: str | None):
    if text is not None:
        (tmp_path / CARD).write_text(text)
    assert usual_likelihoods(str(tmp_path)) is None


@pytest.mark.parametrize(
    "value",
    ["[1, 2]", "7", "{a: b}", f"[{', '.join(['-1'] * NUM_BINS)}]", "[1, 2", "!!python/name:os.system"],
)
def test_a_damaged_card_is_an_error(tmp_path: Path, value: str):
    (tmp_path / CARD).write_text(f"---\nkinescribe_likelihoods: {value}\n---\n")
    with pytest.raises(
        ModelError, match=r"README.md: kinescribe_likelihoods in its front matter is no histogram"
    ):
        usual_likelihoods(str(tmp_path))


def test_a_server_says_nothing():
    assert usual_likelihoods("qwen@http://localhost:1/v1") is None
