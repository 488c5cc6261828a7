from pathlib import Path

import datasets
import numpy as np
import pytest
import yaml
from PIL import Image

from kinescribe.schemas.errors import DatasetError
from kinescribe.schemas.outcomes import DropReason, RejectCode
from kinescribe.storage.audit import check
from kinescribe.storage.card import edited_header, write_card
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.plan import write_plan
from kinescribe.storage.run import bind, read_run
from kinescribe.storage.writers import writing
from tests.tiny_dataset import GRID, build, run_of


def load(dataset: Path, cache: Path) -> datasets.Dataset:
    return datasets.load_dataset(str(dataset), split="train", cache_dir=str(cache))


# Units without rows come first, in between and last: file names are hashes, so any of them may be first.
@pytest.mark.parametrize(
    "endings", [[DropReason.STATIC, 2, RejectCode.CRASHED, 1, 3], [1, RejectCode.TIMEOUT, 2]]
)
def test_datasets_opens_the_folder_with_images(tmp_path: Path, endings: list[int]):
    build(str(tmp_path / "ds"), endings, clips_per_unit=1)
    write_card(str(tmp_path / "ds"))
    with writing(str(tmp_path / "ds")):  # its claim is in the folder
        rows = load(tmp_path / "ds", tmp_path / "cache")
        assert check(str(tmp_path / "ds")).ok
    assert len(rows) == sum(ending for ending in endings if isinstance(ending, int))
    for name, colour in (("source", (254, 0, 0)), ("target", (0, 0, 254))):
        assert isinstance(rows[0][name], Image.Image)
        assert rows[0][name].size == (16, 12)
        assert np.allclose(np.asarray(rows[0][name])[0, 0], colour, atol=2)
    assert all(len(row["importance"]) == GRID[0] * GRID[1] for row in rows)


def test_datasets_sees_images_without_the_card_too(tmp_path: Path):
    build(str(tmp_path / "ds"), [2, 1])
    rows = datasets.load_dataset(
        str(tmp_path / "ds"), data_files="data/*.parquet", split="train", cache_dir=str(tmp_path / "cache")
    )
    assert isinstance(rows[0]["source"], Image.Image)


def test_the_plan_is_not_taken_for_rows(tmp_path: Path):
    build(str(tmp_path / "ds"), [2, 1])
    write_card(str(tmp_path / "ds"))
    assert "triplet_id" in load(tmp_path / "ds", tmp_path / "cache").column_names


def test_the_card_tells_counts_reasons_and_models(tmp_path: Path):
    build(str(tmp_path), [2, RejectCode.MISSING, DropReason.STATIC, 1, 1, 1], pending=1)
    write_card(str(tmp_path))
    text = (tmp_path / "README.md").read_text()
    assert "| 6 | 2 | 1 | 1 | 2 | 3 |" in text
    assert "- missing: 1\n- static: 1\n" in text
    assert '| models.dynamics | `"weights-of-tests"` |' in text
    assert '| codec | `"codec-of-tests"` |' in text
    assert f'| run | `"{read_run(str(tmp_path))["fingerprint"]}"` |' in text
    assert f"# {tmp_path.name}\n" in text
    assert f"{GRID[0]}×{GRID[1]} image tokens" in text
    assert "0.0.1" in text
    front_matter = yaml.safe_load(text.split("---")[1])
    assert front_matter["license"] == "unknown"
    assert {"name": "source", "dtype": "image"} in front_matter["dataset_info"]["features"]


def test_a_card_leaves_the_types_of_carried_columns_to_the_files(tmp_path: Path):
    bind(str(tmp_path), run_of([], columns=["camera"]))
    write_plan(str(tmp_path), [])
    write_card(str(tmp_path))
    assert "dataset_info" not in yaml.safe_load((tmp_path / "README.md").read_text().split("---")[1])


def test_a_header_that_is_no_mapping_is_nobodys_edit(tmp_path: Path):
    build(str(tmp_path), [1])
    (tmp_path / "README.md").write_text("---\n- a list\n---\n")
    assert edited_header(Dataset.open(str(tmp_path))) == {}


def test_a_card_can_be_written_again(tmp_path: Path):
    build(str(tmp_path), [2, 1], pending=1)
    write_card(str(tmp_path))
    first = (tmp_path / "README.md").read_text()
    build(str(tmp_path), [2, 1])
    write_card(str(tmp_path))
    assert (tmp_path / "README.md").read_text() != first


def test_edits_of_the_header_stay_and_derived_fields_are_updated(tmp_path: Path):
    build(str(tmp_path), [2, 1], pending=1)
    write_card(str(tmp_path))
    name = tmp_path / "README.md"
    features = yaml.safe_load(name.read_text().split("---")[1])["dataset_info"]["features"]
    edited = name.read_text().replace("license: unknown", "license: cc-by-4.0\npretty_name: Küche")
    name.write_text(edited.replace("dtype: image", "dtype: string"))
    build(str(tmp_path), [2, 1])
    write_card(str(tmp_path))
    found = yaml.safe_load(name.read_text().split("---")[1])
    assert (found["license"], found["pretty_name"]) == ("cc-by-4.0", "Küche")
    assert found["dataset_info"]["features"] == features
    assert "| 2 | 2 | 0 | 0 | 0 | 3 |" in name.read_text()
    name.write_text("---\nlicense: [\n---\n")
    with pytest.raises(DatasetError, match=r"README\.md: its front matter is not YAML"):
        write_card(str(tmp_path))


def test_a_value_cannot_break_the_cards_table(tmp_path: Path):
    bind(str(tmp_path), run_of([], prompt="a | b\n| c |"))
    write_plan(str(tmp_path), [])
    write_card(str(tmp_path))
    assert '| config.prompt | `"a \\| b\\n\\| c \\|"` |\n' in (tmp_path / "README.md").read_text()


def test_a_folder_that_is_not_a_dataset_gets_no_card(tmp_path: Path):
    with pytest.raises(DatasetError):
        write_card(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_card_that_is_a_link_is_not_read(tmp_path: Path):
    dataset = tmp_path / "dataset"
    build(str(dataset), [2])
    (tmp_path / "private.yaml").write_text("---\npassword: of the user\n---\n")
    (dataset / "README.md").unlink(missing_ok=True)
    (dataset / "README.md").symlink_to("../private.yaml")
    with pytest.raises(DatasetError, match=r"README.md is a link; put the file"):
        edited_header(Dataset.open(str(dataset)))


def test_the_card_in_a_hubs_cache_is_a_link_that_is_read(tmp_path: Path):
    dataset, blobs = tmp_path / "snapshots" / "dataset", tmp_path / "blobs"
    build(str(dataset), [2])
    blobs.mkdir()
    (blobs / ("a" * 40)).write_text("---\nlicense: mit\n---\n")
    (dataset / "README.md").unlink(missing_ok=True)
    (dataset / "README.md").symlink_to(f"../../blobs/{'a' * 40}")
    assert edited_header(Dataset.open(str(dataset))) == {"license": "mit"}
