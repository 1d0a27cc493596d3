"""What is shipped, and that the commands the documents name are there."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from streams.cli import COMMANDS, cli

ROOT = Path(__file__).parents[2]
PACKAGES = ("monitoring", "online_models", "state", "streams")
PAGES = [path for pattern in ("*.md", "docs/**/*.md") for path in ROOT.glob(pattern) if path.name != "CHANGELOG.md"]
CODE = {path: re.findall(r"```.*?```|`[^`]+`", path.read_text(), re.S) for path in PAGES}
README = ROOT / "README.md"
THERE = [name for name in COMMANDS if find_spec(f"streams.cli.{name.replace('-', '_')}")]
BUILD = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"


def named(pattern: str, *pages: Path) -> set[str]:
    """What the pattern's group finds in the code of pages, of all where none is given."""
    return {found for path in pages or PAGES for code in CODE[path] for found in re.findall(pattern, code)}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built offline with the project's own backend, which the dev group brings."""
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run([sys.executable, "-c", BUILD, str(folder)], cwd=ROOT, capture_output=True, check=False)
    assert built.returncode == 0, built.stderr.decode()[-2000:]
    (path,) = folder.iterdir()
    return zipfile.ZipFile(path)


def test_the_wheel_holds_the_four_packages_and_no_more(wheel: zipfile.ZipFile) -> None:
    (info,) = {name.split("/")[0] for name in wheel.namelist()} - set(PACKAGES)
    assert re.fullmatch(r"shoal-[0-9.]+\.dist-info", info)
    held = {name for name in wheel.namelist() if not name.startswith(info)}
    assert held == {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"streams/data/rees46_2019-10-01.csv.gz", "streams/embedded_kafka/kafka-4.3.1.sha256"} < held
    for name in ("LICENSE", "NOTICE"):
        assert wheel.read(f"{info}/licenses/{name}") == (ROOT / name).read_bytes()
    assert b"shoal = streams.cli:main" in wheel.read(f"{info}/entry_points.txt")


@pytest.mark.parametrize("package", PACKAGES)
def test_init_files_hold_a_docstring_only(package: str) -> None:
    files = set((ROOT / package).rglob("__init__.py"))
    assert files
    for path in files - {ROOT / "streams" / "cli" / "__init__.py"}:  # the group of commands
        tree = ast.parse(path.read_text())
        assert (len(tree.body), bool(ast.get_docstring(tree))) == (1, True), path


UNKEPT = re.compile(
    r"\bnot (?:there|available|implemented|supported|built) yet\b|\bnot yet (?:there|available|"
    r"implemented|supported|built)\b|\bcoming soon\b|\bplanned\b|\bto come\b",
    re.I,
)


def said_to_be_missing(page: str) -> list[str]:
    """Sentences, and sections by their headings, that say of something that it is not there yet."""
    sections = re.split(r"^(#+ .*)$", re.sub(r"```.*?```", "", page, flags=re.S), flags=re.M)
    bodies = zip(["", *sections[1::2]], sections[::2], strict=True)
    found = [f"{heading} {body}".strip() for heading, body in bodies if UNKEPT.search(heading)]
    sentences = [one for part in sections[::2] for one in re.split(r"(?<=[.:;])\s", part)]
    return found + [one.strip() for one in sentences if UNKEPT.search(one)]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_documents_do_not_say_that_something_is_missing(path: Path) -> None:
    """What is not there is not spoken of: such a sentence stays when the thing has come."""
    assert said_to_be_missing(path.read_text()) == []


@pytest.mark.parametrize(
    ("page", "count"),
    [
        ("# Shoal\n\nIt runs.\n\n## Not there yet\n\nSegment lineage and embeddings.\n\n## Licence\n\nApache.\n", 1),
        ("# Shoal\n\nEmbeddings are not there yet. It runs.\n", 1),
        ("# Shoal\n\nLineage is planned; it runs.\n", 1),
        ("# Shoal\n\nA version that is not in `models` yet is waited for.\n", 0),
    ],
)
def test_such_sentences_are_found(page: str, count: int) -> None:
    assert len(said_to_be_missing(page)) == count


def test_commands_of_the_documents_are_there() -> None:
    pattern = r"(?:^|[`\n(])shoal ([a-z]+(?:-[a-z]+)*)"
    assert {"topics", "worker"} <= named(pattern, README)
    assert named(pattern) == set(THERE)  # and each is named somewhere


def test_every_command_that_the_help_names_is_there() -> None:
    assert list(COMMANDS) == THERE
    for name in THERE:
        assert isinstance(cli.get_command(click.Context(cli), name), click.Command)


def test_make_targets_and_options_of_the_documents_are_there() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
    assert {"run", "test", "docs"} <= named(r"\bmake ([a-z]+)", README)
    assert named(r"\bmake ([a-z]+)") <= set(targets)
    demo = cli.get_command(click.Context(cli), "demo")
    assert demo is not None
    options = {option for given in named(r'make run ARGS="([^"]*)"') for option in given.split() if option[:1] == "-"}
    assert {"--exit", "--json"} <= options <= {name for param in demo.params for name in param.opts}
