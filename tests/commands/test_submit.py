import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import kinescribe.cluster.jobs
from kinescribe.cli import app, main
from kinescribe.cluster.code_package import CONFIG
from kinescribe.cluster.submission import SubmittedJob
from kinescribe.commands.submit import CHECKS, COMMANDS, PATHS, list_jobs, read_command
from kinescribe.schemas.errors import ConfigError
from kinescribe.schemas.training import TRAININGS

LABEL = ("label", "s3://b/clips", "--out", "s3://b/out")


@pytest.fixture
def root() -> Any:
    return typer.main.get_command(app)


def leaves(command: Any) -> Iterator[Any]:
    """The commands below a command that have no more below them, but those of the human study."""
    for name, one in getattr(command, "commands", {}).items():
        if name != "human":
            yield from leaves(one)
    if not hasattr(command, "commands"):
        yield command


def test_the_arguments_are_sent_as_given(root: Any):
    line = read_command(root, LABEL)
    assert (line.name, line.arguments, line.config) == ("label", list(LABEL), None)
    assert line.parameters["out"] == "s3://b/out"


def test_a_run_does_not_depend_on_the_output_format_or_the_path_of_the_configuration(
    root: Any, tmp_path: Path
):
    names = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    for name in names:
        name.write_text("clips_per_unit: 2")
    first = read_command(root, [*LABEL, "--config", str(names[0])])
    second = read_command(root, [*LABEL, "--json", f"--config={names[1]}"])
    assert first.parameters == second.parameters
    assert first.config == second.config == "clips_per_unit: 2"
    assert first.arguments == [*LABEL, "--config", CONFIG]
    assert second.arguments == [*LABEL, "--json", f"--config={CONFIG}"]
    names[1].write_text("# the same\nclips_per_unit: 2")
    assert read_command(root, [*LABEL, f"--config={names[1]}"]).parameters == first.parameters
    assert read_command(root, [*LABEL, "--set", "clips_per_unit=2"]).parameters == first.parameters
    assert read_command(root, [*LABEL, "--set", "clips_per_unit=3"]).parameters != first.parameters


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ("s3://b/clips", "s3://b/clips/"),
        ("/clips/a", "file:///clips/a"),
        ("/clips/a", "/clips//./a/"),
        ("/a b", "file:///a%20b"),
    ],
)
def test_a_run_does_not_depend_on_the_spelling_of_a_path(root: Any, one: str, same: str):
    first, second = (read_command(root, ["label", clips, *LABEL[2:]]) for clips in (one, same))
    assert first.parameters == second.parameters


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("label", "clips", "--out", "s3://b/out"), "input=clips"),
        (("label", "/clips", "--out", "out"), "out=out"),
        (("label", "/clips", "--out", "file://out"), "out=file://out"),
        ((*LABEL, "--dynamics", "runs/mine"), "dynamics=runs/mine"),
        ((*LABEL, "--set", "dynamics=runs/mine"), "dynamics=runs/mine"),
        (("train", "world", "--data", "/a", "--data", "b", "--out", "/o"), "data=b"),
        (("train", "codec", "--out", "/o", "--set", "held_out=[h]"), "held_out=h"),
        (("train", "dynamics", "--out", "/o", "--set", "model.codec=c"), "codec=c"),
        (("curate", "d", "--top-k", "3", "--out", "/o"), "datasets=d"),
        (("evaluate", "world", "--plot", "p.png"), "plot=p.png"),
    ],
)
def test_a_relative_path_is_refused(root: Any, arguments: tuple[str, ...], named: str):
    with pytest.raises(ConfigError, match="the job runs in another folder") as error:
        read_command(root, arguments)
    assert str(error.value).startswith(f"{named}:")


def test_a_relative_path_in_the_configuration_is_refused(root: Any, tmp_path: Path):
    (tmp_path / "run.yaml").write_text("model: {codec: runs/codec}\ndata: [/a, b]\nsteps: 3")
    with pytest.raises(ConfigError, match=r"^codec=runs/codec, data=b: "):
        read_command(root, ["train", "dynamics", "--config", str(tmp_path / "run.yaml")])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*LABEL, "--set", "nope=3"), "^nope: unknown key"),
        ((*LABEL, "--label-gpus", "1.5"), "^label_gpus: above one GPU it must be a whole number"),
        (("train", "world", "--data", "/a", "--out", "/o"), "give one of steps and epochs"),
        (("train", "codec", "--data", "/a", "--out", "/o", "--mix", "labelled=1"), "^mix: unknown key"),
        (("curate", "/d", "--top-k", "0", "--out", "/o"), "^top_k: "),
        (("evaluate", "aurora", "--data", "/a", "--out", "/o", "-n", "2"), "give dynamics"),
    ],
)
def test_a_wrong_configuration_is_refused_before_it_is_sent(root: Any, arguments: tuple[str, ...], said: str):
    with pytest.raises(ConfigError, match=said):
        read_command(root, arguments)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (
            ("label", "s3://AKIA:secret@host/b", "--out", "/o"),
            r"input=s3://\*\*\*@host/b must not contain a password",
        ),
        ((*LABEL, "--dynamics", "m@http://user:secret@host/v1"), r"dynamics=m@http://\*\*\*@host/v1 must"),
        (
            (*LABEL, "--set", "dynamics=m@https://secret@host/v1"),
            r"https://\*\*\*@host/v1\b.* must not contain",
        ),
        ((*LABEL, "--root", "https://host/b?X-Amz-Signature=secret"), "root=https://host/b"),
        (("curate", "s3://u:secret@h/d", "--top-k", "3", "--out", "/o"), r"datasets=s3://\*\*\*@h/d"),
    ],
)
def test_a_url_with_a_secret_is_not_sent(root: Any, arguments: tuple[str, ...], named: str):
    with pytest.raises(ConfigError, match=named) as error:
        read_command(root, arguments)
    assert "secret" not in str(error.value)


def test_every_check_belongs_to_a_command(root: Any):
    def name_of(command: Any, words: tuple[str, ...] = ()) -> Iterator[str]:
        for name, one in getattr(command, "commands", {}).items():
            yield from name_of(one, (*words, name))
        yield "-".join(words)

    assert CHECKS.keys() <= set(name_of(root))


def test_embedded_models_and_models_of_a_hub_may_be_named(root: Any):
    for name in ("embedded", f"me/ours@{'0' * 40}"):
        line = read_command(root, [*LABEL, "--dynamics", name, "--set", f"dynamics={name}"])
        assert line.parameters["dynamics"] == name


@pytest.mark.parametrize(
    "arguments",
    [
        ("demo",),
        ("submit", *LABEL),
        ("kinescribe", *LABEL),
        (),
        ("evaluate", "human", "score", "/e.json", "--key", "/k.json"),
    ],
)
def test_other_commands_are_refused(root: Any, arguments: tuple[str, ...]):
    with pytest.raises(ConfigError, match="cannot be submitted; give one of label, train, curate, evaluate"):
        read_command(root, arguments)


@pytest.mark.parametrize("arguments", [("evaluate",), ("evaluate", "nothing")])
def test_a_group_of_commands_is_refused_with_their_names(root: Any, arguments: tuple[str, ...]):
    with pytest.raises(ConfigError, match="`evaluate` has several commands; give one of labels, dynamics"):
        read_command(root, arguments)


def test_every_path_among_parameters_and_keys_is_checked(root: Any):
    commands = [one for name in COMMANDS for one in leaves(root.commands[name])]
    assert {"label", "aurora"} <= {command.name for command in commands}
    of_type_path = {
        parameter.name
        for command in commands
        for parameter in command.params
        if "Path" in str(parameter.type_descriptor.annotation)
    }
    keys = {key for kind in TRAININGS.values() for key in kind.model_fields}
    assert {"plot", "truth"} <= of_type_path
    assert of_type_path - {"config"} <= PATHS
    assert {"data", "out", "held_out", "init", "select"} <= keys & PATHS


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:6379", "127.0.0.1:6379 is not the URL of a cluster's dashboard"),
        ("http://127.0.0.1:1", "no cluster answers at http://127.0.0.1:1; check that it runs"),
    ],
)
def test_an_address_without_a_cluster_is_named(
    address: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:2")
    with pytest.raises(SystemExit) as leaving:
        main(["submit", "--address", address, *LABEL])
    assert leaving.value.code == 2
    assert said in capsys.readouterr().err


def test_a_wrong_option_is_found_before_anything_is_sent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(SystemExit) as leaving:
        main(["submit", "--address", "http://127.0.0.1:1", "--", *LABEL, "--micro-batches", "3"])
    assert leaving.value.code == 2
    assert "--micro-batches" in capsys.readouterr().err


def test_jobs_are_printed_for_people_and_for_programs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    class OneJob:
        def __init__(self, address: str) -> None: ...

        def list(self) -> list[SubmittedJob]:
            return [SubmittedJob("kinescribe-label-1", "RUNNING", "python -m kinescribe label \x1b[2J")]

    monkeypatch.setattr(kinescribe.cluster.jobs, "Jobs", OneJob)
    list_jobs(as_json=True)
    assert json.loads(capsys.readouterr().out)[0]["submission_id"] == "kinescribe-label-1"
    list_jobs(as_json=False)
    shown = capsys.readouterr().out
    assert "kinescribe-label-1" in shown
    assert "\x1b" not in shown
