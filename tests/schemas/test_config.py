import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from kinescribe.schemas.config import CurateConfig, LabelConfig, load_config
from kinescribe.schemas.errors import ConfigError

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "label.md"
YAML = """
keyframes: {min_interval: 10}
image: {format: png}
"""


def refusal(text: str | None, *overrides: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load_config(LabelConfig, text, overrides)
    return str(refused.value)


def test_no_configuration_is_the_paper():
    config = load_config(LabelConfig, None)
    assert (config.keyframes.max_keyframes, config.keyframes.min_interval) == (6, 20)
    assert config == LabelConfig()


def test_the_guide_shows_the_defaults():
    (shown,) = re.findall("```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert load_config(LabelConfig, shown) == LabelConfig()


def test_an_override_goes_before_the_file():
    config = load_config(
        LabelConfig, YAML, ["keyframes.min_interval=30", "annotation.seed=7", "dynamics=hub/x"]
    )
    assert (config.keyframes.min_interval, config.annotation.seed) == (30, 7)
    assert (config.image.format, config.dynamics) == ("png", "hub/x")


@pytest.mark.parametrize(
    ("text", "override", "complaint"),
    [
        (
            None,
            "keyframes.interval=10",
            "keyframes.interval: unknown key; did you mean keyframes.min_interval?",
        ),
        (None, "keyframes.min_interval=0", "keyframes.min_interval: must be above 0, got 0"),
        (None, "image.format=gif", "image.format"),
        (None, "keyframes", "an override has the form key=value, got 'keyframes'"),
        (None, "dynamics=[x", "the value of dynamics is not YAML, got '[x'"),
        (None, "=3", "an override has the form key=value"),
        (None, "dynamics.model=x", "dynamics"),
        ("dynamics: x", "dynamics.model=x", "dynamics.model: dynamics is a value, not a section"),
        ("- a list", "clips_per_unit=2", "must be a mapping, got list"),
        ("a: [", "clips_per_unit=2", "cannot be read as YAML"),
        ("a: 2024-13-45", "clips_per_unit=2", "cannot be read as YAML: month must be in 1..12"),
        ("a: !!int ''", "clips_per_unit=2", "cannot be read as YAML"),
        ("a: !!timestamp x", "clips_per_unit=2", "cannot be read as YAML"),
        ("a: " + "[" * 3000, "clips_per_unit=2", "nested too deeply to be read as YAML"),
        (None, "dynamics=2024-13-45", "the value of dynamics is not YAML, got '2024-13-45'"),
        (None, "dynamics=" + "[" * 3000, "the value of dynamics is not YAML"),
        (None, "roots=[s3://bucket]", "roots.0: a root is a folder on this machine, not a URL"),
        (None, "limits.window_s=1e9", "limits.window_s must be at most limits.max_duration_s"),
        (None, "keyframes=3", "keyframes: must be a section with the keys of KeyFrames, got 3"),
    ],
)
def test_a_refusal_names_key_and_value(text: str | None, override: str, complaint: str):
    assert complaint in refusal(text, override)


def test_a_refusal_of_a_whole_section_does_not_repeat_it():
    told = refusal(None, "limits.window_s=1e9")
    assert told.startswith("limits.window_s must be")
    assert told.endswith("got 1000000000.0 and 21600.0")


def test_a_long_value_is_told_in_part():
    assert len(refusal("dynamics: [" + "1, " * 9999 + "]", "clips_per_unit=2")) < 400


@pytest.mark.parametrize("value", ["ins Gefäß 🏀 ", "a: {b", "7", "no", "null", "x " * 99])
def test_a_value_is_taken_as_it_is_and_not_as_yaml(value: str):
    config = load_config(LabelConfig, "dynamics: x", ["dynamics=y"], {"dynamics": value, "codec": None})
    assert (config.dynamics, config.codec) == (value, None)


def test_a_value_for_a_key_of_a_section_leaves_its_other_keys():
    given = {"min_interval": 30}
    config = load_config(LabelConfig, None, [], {"keyframes": given, "keyframes.max_keyframes": 3})
    assert (config.keyframes.min_interval, config.keyframes.max_keyframes) == (30, 3)
    assert given == {"min_interval": 30}


@pytest.mark.parametrize(
    ("override", "remedy"),
    [
        ("min_interval=3", "min_interval: unknown key; did you mean keyframes.min_interval?"),
        (
            "image.colour=red",
            "image.colour: unknown key; remove it, or use one of fit, format, max_side, quality",
        ),
        ("limits.windows_s=9", "limits.windows_s: unknown key; did you mean limits.window_s?"),
    ],
)
def test_an_unknown_key_gets_the_one_that_was_meant(override: str, remedy: str):
    assert refusal(None, override) == remedy


def test_all_that_is_wrong_is_said_at_once():
    message = refusal("clips_per_unit: 0\nmax_reject_rate: 2\nkeyframe: {}")
    assert all(
        key in message
        for key in ("clips_per_unit", "max_reject_rate", "keyframe: unknown key; did you mean keyframes?")
    )


def test_a_configuration_cannot_be_changed():
    with pytest.raises(ValidationError):
        LabelConfig().clips_per_unit = 3


@pytest.mark.parametrize("order", ["[hashes, bars]", "[bars, hashes, bars]"])
def test_the_order_of_quality_makes_no_other_run(order: str):
    assert load_config(LabelConfig, None, [f"quality={order}"]).quality == ("bars", "hashes")


def test_quality_can_be_switched_off():
    assert load_config(LabelConfig, "quality: []").quality == ()


def test_an_unknown_quality_names_those_there_are():
    assert "'sharpness', 'brightness', 'clipping', 'bars', 'text' or 'hashes'" in refusal(
        None, "quality=[noise]"
    )


def test_the_bounds_of_curate_are_ranges():
    with pytest.raises(ConfigError, match=r"max_brightness, got 0\.6 and 0\.4"):
        CurateConfig(top_k=1, min_brightness=0.6, max_brightness=0.4)
