"""A model of each family, loaded once."""

from pathlib import Path

import pytest

from kinescribe.models.token_vlm import TokenVLM
from tests.tiny_families import NAMES, tiny_family


@pytest.fixture(scope="session")
def family_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: tiny_family(name, tmp_path_factory.mktemp(name)) for name in NAMES}


@pytest.fixture(scope="session", params=NAMES)
def family(request: pytest.FixtureRequest, family_folders: dict[str, Path]) -> TokenVLM:
    return TokenVLM.load(family_folders[request.param])
