import pytest

from kinescribe.schemas.actions import in_words


def test_blanks_become_single_spaces():
    assert in_words("  lift \n the\tcup ") == "lift the cup"


@pytest.mark.parametrize("action", ["", " \n", "...", "—"])
def test_an_action_has_words(action: str):
    with pytest.raises(ValueError, match="must contain words"):
        in_words(action)


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\x7f", "\x9b", "\u202e", "\u2066"])
def test_hidden_characters_are_refused(character: str):
    with pytest.raises(ValueError, match="control characters"):
        in_words(f"lift{character} it")


@pytest.mark.parametrize("action", ["می\u200cرود", "👨\u200d👩 dance", "naïve"])
def test_characters_that_a_language_needs_are_kept(action: str):
    assert in_words(action) == action
