from pathlib import Path

import pytest

from kinescribe.commands.simulate import simulate_clips, simulate_triplets
from kinescribe.models.codec import ImageCodec
from kinescribe.schemas.errors import ConfigError
from kinescribe.simulation import triplets


def test_a_file_is_refused_as_the_folder_before_anything_is_drawn(tmp_path: Path):
    file = tmp_path / "mine"
    file.write_text("precious")
    for write in (lambda: simulate_clips(file), lambda: simulate_triplets(f"{file}/below")):
        with pytest.raises(ConfigError, match="mine is a file; name a folder"):
            write()
    assert file.read_text() == "precious"


def test_the_codec_of_the_package_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    drawn: list[object] = []
    monkeypatch.setattr(triplets, "write_triplets", lambda *arguments, **_: drawn.append(arguments[4]))
    simulate_triplets(str(tmp_path / "encoded"), codec="embedded")
    (codec,) = drawn
    assert isinstance(codec, ImageCodec)
    assert codec.grid == (8, 8)
