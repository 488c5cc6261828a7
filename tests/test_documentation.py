"""The documentation's commands exist, and its links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from kinescribe.cli import app

ROOT = Path(__file__).parent.parent
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *ROOT.glob("kinescribe/models/*/README.md"),
]


def shown(page: Path) -> list[list[str]]:
    """The arguments of each `kinescribe` in the page's blocks of shell."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    words = [shlex.split(part, comments=True) for line in lines for part in line.split(" && ")]
    return [arguments for program, *arguments in filter(None, words) if program == "kinescribe"]


COMMANDS = [arguments for page in PAGES for arguments in shown(page)]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_command_of_the_documentation_has_these_arguments(arguments: list[str]):
    command, name = get_command(app), "kinescribe"
    while True:
        context = command.make_context(name, [*arguments])
        if not hasattr(command, "resolve_command"):
            return
        name, command, arguments = command.resolve_command(context, arguments)


def test_the_documentation_has_commands():
    assert len(COMMANDS) > 40


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_link_leads_to_a_file(page: Path):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []
