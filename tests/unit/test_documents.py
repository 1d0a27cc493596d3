"""The documents say what is there: links, anchors, files and names of code, settings; the reference is whole."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import click
import pytest
from pydantic import BaseModel

from monitoring.metrics import VOCABULARY
from state.stores.memory import MemoryStore
from streams import errors
from streams.cli import EXIT_CODES, cli
from streams.config.settings import Settings
from streams.processing.alerts import registry
from streams.processing.alerts.registry import AlertSettings, rules_from
from streams.processing.alerts.rule import AlertRule
from streams.processing.outputs.output_buffer import Topics
from streams.processing.partition_config import PartitionConfig
from streams.processing.partition_processor import PartitionProcessor
from tests.build import records, version
from tests.support import alerting
from tests.support.decoding import decode

ROOT = Path(__file__).parents[2]
SOURCES = ("state", "online_models", "monitoring", "streams", "tests", "docs")
PAGES = sorted(path for pattern in ("*.md", "docs/**/*.md") for path in ROOT.glob(pattern))


@cache
def reference() -> ModuleType:
    """docs/reference.py, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def texts() -> dict[Path, str]:
    """All pages, those that are made when the site is built among them."""
    made = {ROOT / "docs" / name: page() for name, page in reference().PAGES.items()}
    return {path: path.read_text(encoding="utf-8") for path in PAGES} | made


def prose(text: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^( *)```.*?^\1```", "", text, flags=re.S | re.M)


# -- links ------------------------------------------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as mkdocs and GitHub make them."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.M)
    slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings]
    return set(slugs) | {re.sub(r"-+", "-", slug) for slug in slugs}


def dead_links(path: Path, pages: dict[Path, str]) -> list[str]:
    """The relative links of a page that lead nowhere."""
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(pages[path])):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        to = (path.parent / name).resolve() if name else path
        there = to in pages or to.exists()
        if not there or (anchor and anchor not in anchors(pages.get(to, ""))):
            dead.append(target)
    return dead


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_link_is_dead(path: Path) -> None:
    assert dead_links(path, texts()) == []


def test_no_link_of_the_reference_is_dead() -> None:
    dead = {path: dead_links(path, texts()) for path in texts().keys() - set(PAGES)}
    assert len(dead) == len(reference().PAGES)
    assert not any(dead.values()), dead


def test_a_dead_link_is_found() -> None:
    page = ROOT / "docs" / "page.md"
    text = "# A title\n\n[a](concepts.md) [b](nowhere.md) [c](#a-title) [d](#no-title) [e](concepts.md#no-title)\n"
    assert dead_links(page, texts() | {page: text}) == ["nowhere.md", "#no-title", "concepts.md#no-title"]


def test_links_of_the_repository_do_not_lead_to_pages_that_only_the_site_has() -> None:
    outside = [path for path in PAGES if path.parent == ROOT]
    assert not [path for path in outside if re.search(r"\]\([^)]*reference/", prose(path.read_text()))]


# -- names of code ----------------------------------------------------------------------------------------------------


@cache
def defined(path: Path) -> set[str]:
    """The functions, classes and constants of a module, by qualified name."""
    found: set[str] = set()

    def walk(body: list[ast.stmt], above: str) -> None:
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found.add(above + node.name)
                if isinstance(node, ast.ClassDef):
                    walk(node.body, f"{above}{node.name}.")
            for target in getattr(node, "targets", [getattr(node, "target", None)]):
                if isinstance(target, ast.Name):
                    found.add(above + target.id)

    walk(ast.parse(path.read_text(encoding="utf-8")).body, "")
    return found


def wrong_names(text: str) -> list[str]:
    """Files and names in them (`state/windows.py::advance`) that a page names and that are not there."""
    wrong = []
    for code in re.findall(r"`([^`\n]+)`", text):
        name, _, symbol = code.partition("::")
        if not re.fullmatch(rf"(?:{'|'.join(SOURCES)})/[\w./-]*", name):
            continue
        path = ROOT / name
        if not path.exists() or (symbol and symbol not in defined(path)):
            wrong.append(code)
    return wrong


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_names_that_a_page_names_exist(path: Path) -> None:
    assert wrong_names(prose(texts()[path])) == []


def test_files_and_names_that_the_reference_names_exist() -> None:
    assert not [wrong for path in texts().keys() - set(PAGES) for wrong in wrong_names(prose(texts()[path]))]


def test_a_wrong_name_is_found() -> None:
    text = "`state/windows.py::advance` `state/windows.py::no_such` `state/no_such.py` `streams/` `learner.every`"
    assert wrong_names(text) == ["state/windows.py::no_such", "state/no_such.py"]


def test_the_map_has_every_package() -> None:
    page = texts()[ROOT / "docs" / "architecture.md"].partition("## Map of the packages")[2]
    packages = {path.parent for name in SOURCES[:4] for path in (ROOT / name).rglob("__init__.py")}
    listed = {ROOT / name for name in re.findall(r"^\| `([\w/]+)/` \|", page, re.M)}
    assert listed == packages - {ROOT / "streams"}  # which has no modules of its own but the errors


def traced_files() -> set[str]:
    """The modules of the core through which an event of a known user passes."""
    task = PartitionProcessor(
        PartitionConfig(sources=("clickstream",)),
        decode,
        MemoryStore(),
        Topics("c", "s", "a", "d", "t", "r"),
        commands="commands",
    )
    task.adopt(version(1, 3))
    events: list[dict[str, Any]] = [
        {"user_id": "u1", "event_time": 1_700_000_000_000 + 1000 * i, "event_type": kind, "price": 900.0}
        for i, kind in enumerate(("view", "purchase"))
    ]
    task.add(records(events[:1], first=0))
    task.run(1 << 60, {"clickstream": 1})
    task.cut(0)
    found: set[str] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            found.add(frame.f_code.co_filename)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        task.add(records(events[1:], first=1))
        task.run(1 << 60, {"clickstream": 2})
        task.cut(0)
    finally:
        sys.setprofile(before)
    own = [Path(name).relative_to(ROOT) for name in found if name.startswith(str(ROOT))]
    return {str(path) for path in own if path.parts[0] in SOURCES[:4]} - {"state/stores/memory.py"}


def test_the_path_of_one_event_names_each_file_that_it_passes() -> None:
    before, _, after = texts()[ROOT / "docs" / "architecture.md"].partition("<!-- path of one event -->")
    calls = re.findall(r"`([\w/]+\.py)(::[\w.]+)?`", after.partition("\n\n")[0])
    named = {name for name, _ in calls}
    assert f"{sum(bool(call) for _, call in calls)} calls in {len(named)} files" in before
    # the list names the rules' registry in place of each rule
    rules = {f"{rule.__module__.replace('.', '/')}.py" for rule in registry.RULES}
    traced = traced_files()
    assert len(traced) > 20
    assert traced - named - rules == set()


# -- settings ---------------------------------------------------------------------------------------------------------


def settings(model: type[BaseModel] = Settings, above: str = "") -> Iterator[tuple[str, str]]:
    """Each setting with its description, from the models."""
    for name, field in model.model_fields.items():
        path, kind = above + (field.alias or name), field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from settings(kind, f"{path}.")
            continue
        yield path, field.description or ""
        for member in getattr(kind, "__args__", ()):
            if isinstance(member, type) and issubclass(member, BaseModel):
                yield from settings(member, f"{path}[].")


def test_the_reference_has_every_setting_with_its_meaning() -> None:
    page = texts()[ROOT / "docs" / "reference" / "settings.md"]
    found = re.findall(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", page, re.M)
    listed = {name: meaning.strip() for name, _, _, meaning in found}
    assert len(listed) > 80
    assert listed == dict(settings())
    assert all(meaning.endswith(".") for meaning in listed.values())


def test_settings_that_a_page_names_exist() -> None:
    known = {name for name, _ in settings()}
    sections = {name.partition(".")[0] for name in known if "." in name and "[" not in name}
    for path, text in texts().items():
        if path.name == "CHANGELOG.md":  # it may name what is gone
            continue
        named = {one for one in re.findall(r"`([a-z]+\.[a-z_]+\*?)`", text) if one.partition(".")[0] in sections}
        whole = {one for one in named if not one.endswith("*")}
        assert whole <= known, f"{path.name}: {whole - known}"
        for part in named - whole:
            assert any(name.startswith(part.rstrip("*")) for name in known), f"{path.name}: {part}"


# -- the rest of the reference ----------------------------------------------------------------------------------------


def test_the_reference_has_every_metric() -> None:
    page = texts()[ROOT / "docs" / "reference" / "metrics.md"]
    assert re.findall(r"^\| `(shoal_\w+)` \|", page, re.M) == [spec.public for spec in VOCABULARY]


def test_the_reference_and_the_help_have_every_exit_code() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.ShoalError)]
    codes = {0} | {kind.exit_code for kind in kinds}
    page = texts()[ROOT / "docs" / "reference" / "exit-codes.md"]
    assert {int(code) for code in re.findall(r"^\| `(\d+)` \| \w", page, re.M)} == codes
    assert {int(code) for code in re.findall(r"^ +(\d+)  \w", EXIT_CODES, re.M)} == codes
    operations = texts()[ROOT / "docs" / "operations.md"]
    advised = {int(code) for code in re.findall(r"^\| (\d+) \|", operations, re.M)}
    assert advised == codes - {0, 1, 10}  # those with which a worker ends, and that somebody can do something about


def commands(group: click.Group, above: str) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        yield f"{above} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{above} {name}")


def test_the_reference_has_every_command_with_its_options() -> None:
    page = texts()[ROOT / "docs" / "reference" / "command-line.md"]
    parts = re.split(r"^##+ (shoal .*)$", page, flags=re.M)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    found = dict(commands(cli, "shoal"))
    assert sections.keys() == found.keys()
    for name, command in found.items():
        options = {option for param in command.params if isinstance(param, click.Option) for option in param.opts}
        assert {option for option in options if f"`{option}`" not in sections[name]} == set(), name


def test_the_reference_has_every_topic() -> None:
    found = reference()
    keys = {name for name, field in Settings().topics.__class__.model_fields.items() if field.annotation is str}
    assert found.TOPICS.keys() == keys | {"sources", "changelog", "repartition"}
    assert found.topic_names().keys() == found.TOPICS.keys()


def test_the_reference_has_every_field_of_records() -> None:
    found = reference()
    for name, kinds in found.RECORDS.items():
        assert found.MEANINGS[name].keys() == kinds().keys(), name
    assert found.MEANINGS.keys() == found.RECORDS.keys()


def test_the_reference_has_every_field_of_alerts() -> None:
    config = PartitionConfig(sources=("clickstream",), alerts=rules_from(AlertSettings(request_rate=(1, 2))))
    task = PartitionProcessor(config, decode, MemoryStore(), Topics("c", "s", "a", "d", "t", "r"))
    task.adopt(version(1, 3))
    task.add(records([{"user_id": "u1", "event_time": 1_700_000_000_000, "event_type": "view"}], first=0))
    task.run(1 << 60, {"clickstream": 1})
    flush = task.cut(0)
    assert flush is not None
    ((_, value, _),) = flush.outputs["a", 0]
    assert json.loads(value or b"")["data"].keys() == reference().MEANINGS["alert"].keys()


# -- alert rules ------------------------------------------------------------------------------------------------------


def test_the_page_of_alerts_has_a_section_for_each_rule_that_names_its_settings() -> None:
    page = texts()[ROOT / "docs" / "alerts.md"].partition("## Add a rule")[0]
    parts = re.split(r"^### `(\w+)`$", page, flags=re.M)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert tuple(sections) == registry.NAMES
    for rule in registry.RULES:
        assert {name for name in rule.Settings.model_fields if f"`alerts.{name}`" not in sections[rule.name]} == set()


def test_the_rule_of_the_example_works(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
    code = re.search(r"^    ```python\n(.*?)^    ```", page, re.S | re.M)
    assert code is not None
    example = ModuleType("example")
    monkeypatch.setitem(sys.modules, "example", example)
    exec(inspect.cleandoc(code[1]), vars(example))
    rule: type[AlertRule] = example.FailedCheckouts
    # Where the example has become a rule, it replaces itself.
    others = [other for other in registry.default_rules() if other.slot != rule.slot and other.name != rule.name]
    assert len(others) >= 4
    settings = rule.Settings(failed_checkouts=(2, 4))
    kinds = ("checkout", "checkout", "purchase", "checkout")
    events = [alerting.event("u1", 1000 * i, kind) for i, kind in enumerate(kinds)]
    found = alerting.alerts(events, (*others, rule.from_settings(settings)))
    assert [(a["rule"], a["status"], a["evidence"]["checkouts_1h"]) for a in found] == [
        ("failed_checkouts", "open", 2),
        ("failed_checkouts", "resolved", 2),
        ("failed_checkouts", "open", 3),
    ]


# -- the rest ---------------------------------------------------------------------------------------------------------


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 180
