from pathlib import Path

import pytest

from kinescribe.commands.simulate import simulate_clips, simulate_triplets
from kinescribe.schemas.errors import ConfigError


def test_a_file_is_refused_as_the_folder_before_anything_is_drawn(tmp_path: Path):
    file = tmp_path / "mine"
    file.write_text("precious")
    for write in (lambda: simulate_clips(file), lambda: simulate_triplets(f"{file}/below")):
        with pytest.raises(ConfigError, match="mine is a file; name a folder"):
            write()
    assert file.read_text() == "precious"
