from pathlib import Path

import pytest

from kinescribe.evaluation.model_outputs import Output, read_outputs, write_outputs
from kinescribe.schemas.errors import InputError

OUTPUT = Output(id="ag-0", instruction="close the door", input="a.png", output="b.png", task="ag", judge=3.0)


def test_outputs_come_back_by_id(tmp_path: Path):
    write_outputs(tmp_path, [OUTPUT])
    assert read_outputs(tmp_path) == {"ag-0": OUTPUT}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("[", "the file: Invalid JSON"),
        ("[]", "is empty"),
        ('[{"id": "a", "instruction": "b", "input": "c"}]', "0.output: Field required"),
        (f"[{OUTPUT.model_dump_json()}, {OUTPUT.model_dump_json()}]", "two outputs"),
        (
            f"[{OUTPUT.model_copy(update={'input': '/etc/a.png'}).model_dump_json()}]",
            "'/etc/a.png' of 'ag-0' is",
        ),
        (f"[{OUTPUT.model_copy(update={'output': '../b.png'}).model_dump_json()}]", "outside the folder"),
    ],
)
def test_what_is_no_list_of_outputs_is_refused(text: str | None, message: str, tmp_path: Path):
    if text is not None:
        (tmp_path / "outputs.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_outputs(tmp_path)


def test_an_image_that_is_a_link_out_of_the_folder_is_refused(tmp_path: Path):
    folder = tmp_path / "outputs"
    folder.mkdir()
    (tmp_path / "private.png").write_bytes(b"of the user")
    (folder / "inside.png").write_bytes(b"of the model")
    (folder / "a.png").symlink_to("inside.png")
    (folder / "b.png").symlink_to("../private.png")
    write_outputs(folder, [OUTPUT.model_copy(update={"output": "a.png"})])
    assert read_outputs(folder)
    write_outputs(folder, [OUTPUT])
    with pytest.raises(InputError, match=r"'b.png' of 'ag-0' is outside the folder"):
        read_outputs(folder)


@pytest.mark.parametrize("path", ["loop.png", "x" * 5000, "a/" * 3000, "a.png/b"])
def test_a_path_that_no_file_can_have_is_no_error_of_the_list(tmp_path: Path, path: str):
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "a.png").touch()
    write_outputs(tmp_path, [OUTPUT.model_copy(update={"output": path})])
    assert read_outputs(tmp_path)["ag-0"].output == path
    write_outputs(tmp_path, [OUTPUT.model_copy(update={"output": "a\0b"})])
    with pytest.raises(InputError, match="outside the folder"):
        read_outputs(tmp_path)
