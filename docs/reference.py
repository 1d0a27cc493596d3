"""The reference pages, made from the code when the site is built (`make docs`): each function gives Markdown.

mkdocs calls `on_files`, because mkdocs.yml names this file as a hook. The descriptions of settings and metrics are
those of the code; what records hold is described in `MEANINGS`, and tests/unit/test_documents.py compares it with the
code.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from typing import Any

import click
import msgspec

from monitoring.metrics import STATUSES, VOCABULARY, Labels, Spec
from online_models.learner import control_messages
from streams import errors
from streams.cli import COMMANDS, cli
from streams.config.settings import Settings, load
from streams.kafka.topics import TopicSpec, specs
from streams.processing import commands
from streams.processing.alerts import registry
from streams.processing.outputs import lineage_records, segment_changes
from streams.processing.rejects import dead_letter
from streams.schemas.event_batch import REASONS, Reject
from streams.schemas.event_fields import FIELDS
from streams.schemas.registry import SCHEMAS

Row = tuple[str, ...]
MADE = "*This page is made from the code when the site is built.*\n"


def table(head: Row, rows: list[Row]) -> str:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


# -- settings ---------------------------------------------------------------------------------------------------------


def settings_of(schema: dict[str, Any] | None = None, prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Each setting as (dotted name, JSON schema); a list of sections gives those of its member, as `sources[].name`."""
    whole = Settings.model_json_schema()
    for name, given in (schema or whole)["properties"].items():
        found = given.get("allOf", [given])[0]
        path, member = f"{prefix}{name}", found.get("items", {})
        if "$ref" in found:
            yield from settings_of(whole["$defs"][found["$ref"].rpartition("/")[2]], f"{path}.")
        elif "$ref" in member:
            yield path, given
            yield from settings_of(whole["$defs"][member["$ref"].rpartition("/")[2]], f"{path}[].")
        else:
            yield path, given


def kind_of(schema: dict[str, Any]) -> str:
    """The type and the bounds of a JSON schema, in words."""
    if "anyOf" in schema:
        kinds = [kind_of(one) for one in schema["anyOf"] if one.get("type") != "null"]
        numbers = "prefixItems" in schema["anyOf"][0]  # only a pair of levels can be switched off
        return " or ".join([*kinds, "`false`"] if numbers else kinds)
    if "enum" in schema:
        return "one of " + ", ".join(f"`{value}`" for value in schema["enum"])
    if "prefixItems" in schema:
        return f"two of: {kind_of(schema['prefixItems'][0])} (warning, critical)"
    if schema.get("type") == "array":
        member = "section" if "$ref" in schema["items"] else kind_of(schema["items"])
        return f"list of: {member}"
    if schema.get("type") == "object":
        return "table of strings"
    kind = {"integer": "integer", "number": "number", "boolean": "boolean"}.get(schema.get("type", ""), "string")
    if schema.get("format") in ("path", "password"):
        kind = {"path": "path", "password": "secret"}[schema["format"]]
    bounds = [("exclusiveMinimum", "> "), ("minimum", "≥ "), ("exclusiveMaximum", "< "), ("maximum", "≤ ")]
    said = [f"{sign}{schema[key]}" for key, sign in bounds if key in schema]
    return ", ".join([kind, *said])


def settings_page() -> str:
    parts = [
        "# Settings\n",
        MADE,
        "Settings come from `shoal.toml`, then from environment variables, then from options of the command line; "
        "the later ones win. The setting `section.key` is the variable `SHOAL_SECTION__KEY`; `SHOAL_SECTION__KEY_FILE` "
        "names a file that holds the value. `shoal config` shows the settings in force. An unknown setting, or a value "
        "of a wrong type or out of bounds, is an error that names the setting (exit code 2).\n",
    ]
    sections: dict[str, list[Row]] = {}
    for name, schema in settings_of():
        section = name.partition(".")[0] if "." in name else ""
        section = "sources" if name.startswith("sources") else section
        default = f"`{json.dumps(schema['default'])}`" if "default" in schema else "required"
        if "default" in schema and schema["default"] is None:
            default = "`false`" if "anyOf" in schema and "prefixItems" in schema["anyOf"][0] else "none"
        if schema.get("format") == "password":
            default = f'`"{Settings().learner.hash_key.get_secret_value()}"`'
        if name == "sources":
            default = ", ".join(f"`{source.name}`" for source in Settings().sources)
        row = f"`{name}`", kind_of(schema), default, schema.get("description", "").replace("\n", " ")
        sections.setdefault(section, []).append(row)
    for section, rows in sections.items():
        parts.append(f"## {'General' if not section else '[[sources]]' if section == 'sources' else f'[{section}]'}\n")
        parts.append(table(("setting", "type", "default", "meaning"), rows))
    return "\n".join(parts)


# -- the command line -------------------------------------------------------------------------------------------------


def commands_of(group: click.Group = cli, above: str = "shoal") -> Iterator[tuple[str, click.Command]]:
    """Each command as (its whole name, click's command); those of a group after it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{above} {name}", command
        if isinstance(command, click.Group):
            yield from commands_of(command, f"{above} {name}")


def plain(text: str) -> str:
    """The help of a command as Markdown: what click is told not to wrap becomes a block of code."""
    parts = []
    for part in inspect.cleandoc(text).split("\n\n"):
        lines = part.split("\n")
        parts.append("```text\n" + "\n".join(lines[1:]) + "\n```" if lines[0] == "\b" else part.replace("<", "&lt;"))
    return "\n\n".join(parts) + "\n"


def options_of(command: click.Command) -> str:
    """The options and arguments of a command."""
    rows = []
    for param in command.params:
        if isinstance(param, click.Option):
            names = ", ".join(f"`{name}`" for name in [*param.opts, *param.secondary_opts])
            value = "" if param.is_flag or param.count else f" `{param.make_metavar(click.Context(command))}`"
            fixed = param.default if isinstance(param.default, (str, int, float)) and param.default is not False else ""
            default = f"`{fixed}`" if fixed != "" and not param.is_flag else ""
            rows.append((names + value, "required" if param.required else default, param.help or ""))
    return table(("option", "default", "meaning"), rows) if rows else ""


def usage(name: str, command: click.Command) -> str:
    return f"```text\n{name} {' '.join(command.collect_usage_pieces(click.Context(command)))}\n```\n"


def commands_page() -> str:
    parts = [
        "# Command line\n",
        MADE,
        "`shoal COMMAND --help` prints the same text. The options of `shoal` itself come before the command.\n",
        usage("shoal", cli),
        options_of(cli),
    ]
    for name, command in commands_of():
        depth = "##" if name.count(" ") == 1 else "###"
        parts += [f"{depth} {name}\n", usage(name, command), plain(command.help or ""), options_of(command)]
    assert COMMANDS.keys() == {name.split(" ")[1] for name, _ in commands_of()}
    return "\n".join(parts)


# -- exit codes -------------------------------------------------------------------------------------------------------


def exit_codes() -> dict[int, str]:
    """The meaning of each exit code, by the errors that end a command."""
    found = {0: "The command is done.", 1: "An error that none of the codes below stands for."}
    for _, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, errors.ShoalError) and kind is not errors.ShoalError:
            found[kind.exit_code] = inspect.getdoc(kind) or ""
    return dict(sorted(found.items()))


def exit_codes_page() -> str:
    rows = [(f"`{code}`", meaning.replace("\n", " ")) for code, meaning in exit_codes().items()]
    return "\n".join(
        [
            "# Exit codes\n",
            MADE,
            "What to do about a worker that ended is in [Operations](../operations.md#exit-codes).\n",
            table(("code", "meaning"), rows),
        ]
    )


# -- metrics ----------------------------------------------------------------------------------------------------------


def metrics_page() -> str:
    def labels(spec: Spec) -> str:
        if not spec.labels:
            return ""
        values: tuple[Labels, ...] = tuple(zip(*spec.known, strict=True)) if len(spec.labels) == 1 else ()
        if spec.key == "alert":
            values = registry.NAMES, STATUSES
        if not values:
            return ", ".join(f"`{label}`" for label in spec.labels)
        listed = [", ".join(f"`{value}`" for value in one) for one in values]
        return "; ".join(f"`{label}`: {one}" for label, one in zip(spec.labels, listed, strict=True))

    rows = [(f"`{spec.public}`", spec.kind, labels(spec), spec.help) for spec in VOCABULARY]
    return "\n".join(
        [
            "# Metrics\n",
            MADE,
            "A worker serves them at `/metrics` of its status page, in the text format of Prometheus, beside the usual "
            "`process_*` metrics. A series of a partition comes from the partition's owner. No label has a user id.\n",
            table(("metric", "type", "labels", "meaning"), rows),
        ]
    )


# -- topics -----------------------------------------------------------------------------------------------------------

TEXT_MS = "RFC 3339, or epoch milliseconds"
# what the fields of records mean, by the name of the record
MEANINGS: dict[str, dict[str, str]] = {
    "event": {
        "event_time": f"Time of the event: {TEXT_MS}. Required.",
        "event_type": "Type of the event. Required; an unknown type counts as `other`.",
        "user_id": "User. Required; the same text as the record's key, at most 1024 bytes of UTF-8.",
        "event_id": "Identifies the event: one whose id is among the user's 16 newest is left out.",
        "session_id": "Session. Without it, 30 minutes without an event end a session.",
        "transaction_id": "Order: purchases with the same one are one order.",
        "category": "Category of the product.",
        "brand": "Brand of the product.",
        "price": "Price of a piece, in major units; not negative.",
        "quantity": "Pieces, a whole number; 1 where it is missing, negative for a return.",
        "currency": "Currency; another one than the setting `currency` is a reject.",
        "country": "Country of the user.",
        "region": "Region of the user.",
        "city": "City of the user.",
    },
    "change": {
        "user": "User id.",
        "seq": "Number of the change among the user's, from 1.",
        "from": "Segment before; null where there was none.",
        "to": "Segment after; null where the user is forgotten or erased.",
        "cause": "Why: " + ", ".join(f"`{cause}`" for cause in segment_changes.CAUSES) + ".",
        "as_of": "Event time as of which the change was decided.",
        "model_version": "Model version that decided it.",
        "previous_version": "With the cause `model`: the version that decided the segment before; else null.",
        "margin": "How much farther the runner-up is, -1 to 1; below 0 where hysteresis holds the user.",
        "runner_up": "Nearest other segment.",
        "features": "Up to three features that speak most for the new segment: name, scaled value, weight.",
        "predicted": "In a user's first day: segment at its end, and its probability; else null.",
        "record": "Source record that caused the change: topic, partition, offset; null where none did.",
    },
    "current": {
        "user": "User id.",
        "segment": "Current segment.",
        "since": "Event time of the last change.",
        "seq": "Number of the last change.",
        "model_version": "Model version that decided it.",
    },
    "lineage": {
        "event": "What happened: `born`, `split`, `merged`, `retired`, `restored`.",
        "segment": "Born, split: the new segment. Merged, retired: the one that ends.",
        "parents": "Segments that its people were in before, with their shares; segment null: in none.",
        "heirs": "Segments that its people are in now, with their shares.",
        "people": "People that the event is about.",
        "model_version": "Model version that brought it.",
    },
    "command": {
        "command": "`erase` or `advance`.",
        "request_id": "Identifies the receipt; 1 to 200 characters.",
        "user_id": "Of `erase`: the user, which is also the record's key.",
        "to": f"Of `advance`: the new watermark; {TEXT_MS}.",
    },
    "receipt": {
        "request_id": "That of the command.",
        "command": "That of the command.",
        "result": "`erased` or `unknown`; `advanced` or `unchanged`.",
        "partition": "Partition of the command.",
        "offset": "Offset of the command.",
    },
    "answer": {
        "request_id": "That of the request.",
        "order": "What was asked for: `candidate`, `promote` or `rollback`.",
        "accepted": "Whether it was carried out.",
        "why": "Why it was refused, or what it led to.",
        "version": "Newest model version after it.",
        "offset": "Offset of the request in the training rows.",
    },
    "alert": {
        "rule": "Alert rule: " + ", ".join(f"`{name}`" for name in registry.NAMES) + ".",
        "severity": "`warning` or `critical`; `none` where it is resolved.",
        "status": "`open`, `update` or `resolved`.",
        "subject": "User id.",
        "evidence": "What the rule found.",
        "thresholds": "The rule's thresholds.",
        "first_seen": "Event time at which the alert opened.",
        "last_seen": "Event time of this record.",
    },
    "dead letter": {
        "reason": "Why the record was rejected.",
        "detail": "Field or fault; never a value.",
        "topic": "Topic of the rejected record.",
        "partition": "Its partition.",
        "offset": "Its offset.",
        "timestamp": "Its time, epoch milliseconds.",
    },
}


def struct_fields(struct: type[msgspec.Struct]) -> dict[str, str]:
    """The type of each field of a record, by its name in JSON."""
    schema = msgspec.json.schema(struct)
    name = schema["$ref"].rpartition("/")[2]
    return {field: json_kind(given) for field, given in schema["$defs"][name]["properties"].items()}


def json_kind(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(json_kind(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        return f"array of {json_kind(schema['items'])}"
    return "object" if "$ref" in schema else str(schema.get("type", "string"))


def event_fields() -> dict[str, str]:
    """The type of each field of an event, by its name."""
    names = {"str": "string", "int": "integer", "float": "number"}
    kinds = {name: str(kind).replace("NoneType", "None").split(" | ") for name, kind in FIELDS.items()}
    return {name: " or ".join(names[one] for one in kind if one != "None") for name, kind in kinds.items()}


def dead_letter_headers() -> dict[str, str]:
    """The headers of a dead letter."""
    _, _, headers = dead_letter(Reject("", "", "", 0, 0, 0, b"", b""))
    return {name: "UTF-8" for name, _ in headers}


RECORDS: dict[str, Callable[[], dict[str, str]]] = {
    "event": event_fields,
    "change": lambda: struct_fields(segment_changes._Change),
    "current": lambda: struct_fields(segment_changes._Current),
    "lineage": lambda: struct_fields(lineage_records._Event),
    "command": lambda: struct_fields(commands.Command),
    "receipt": lambda: struct_fields(commands._Receipt),
    "alert": lambda: dict.fromkeys(MEANINGS["alert"], "string") | dict.fromkeys(("evidence", "thresholds"), "object"),
    "answer": lambda: struct_fields(control_messages.Answer),
    "dead letter": dead_letter_headers,
}


def record(name: str, head: str = "field") -> str:
    """A table of what a record holds."""
    kinds = RECORDS[name]()
    rows = [(f"`{field}`", kinds.get(field, ""), meaning) for field, meaning in MEANINGS[name].items()]
    return table((head, "type", "meaning"), rows)


ENVELOPE = """A value is a CloudEvents 1.0 event in JSON. `subject` is the key, `time` the event time, and `id` is the \
same for the same fact, whoever computes it. The fields below are those of `data`.
"""

# the part of each topic in the reference, by its key in [topics]
TOPICS: dict[str, tuple[str, list[str]]] = {
    "sources": (
        "Events, keyed by user id in UTF-8 and placed by Kafka's default partitioner (murmur2). A value is a JSON "
        "object in the source's schema (`sources[].schema`); unknown fields are ignored. Schemas: "
        + "; ".join(f"`{name}`: {schema.description}" for name, schema in SCHEMAS.items())
        + ". These are the fields of the schema `shoal`; the settings `sources[].fields` and `sources[].types` map "
        "other names.\n",
        ["event"],
    ),
    "segment_changes": (f"Key: user id. Type `shoal.segment-change`. {ENVELOPE}", ["change"]),
    "segments": (
        "Key: user id. Type `shoal.segment`; a tombstone where the user is forgotten or erased. " + ENVELOPE,
        ["current"],
    ),
    "alerts": (f"Key: user id. Type `shoal.alert`. {ENVELOPE}", ["alert"]),
    "dead_letters": (
        "Key and value are those of the rejected record; a value over 512 KiB is cut, and the headers `length` and "
        "`sha256` then describe the whole. Receipts of `shoal dead-letters --send-back` lie in the same topic: they "
        "have the header `sent-back`. Reasons: " + ", ".join(f"`{reason}`" for reason in REASONS if reason) + ".\n",
        ["dead letter"],
    ),
    "commands": ("Key: user id, placed as events are. A value is a JSON object.\n", ["command"]),
    "commands_results": (
        "Key: request id. Type `shoal.receipt`; `subject` is the request id. A value is a CloudEvents 1.0 event in "
        "JSON. The fields below are those of `data`: first of the receipt of a command, then of the learner's answer "
        "to `shoal models promote` or `rollback`.\n",
        ["receipt", "answer"],
    ),
    "training_rows": (
        "Key: a keyed hash of the user id, 16 bytes. A value is binary: a header (hash of the features' names, kind of "
        "row, time, time of the user's first event, lifetime carts, orders and sessions), then the raw features as "
        "float64, little-endian. Records with the key `order` are control messages to the learner, in JSON.\n",
        [],
    ),
    "models": ("Key: number of the version. A value is a msgpack map with a checksum, without pickle.\n", []),
    "segment_lineage": (
        "Key: segment id. Type `shoal.segment-lineage`. " + ENVELOPE,
        ["lineage"],
    ),
    "changelog": (
        "Key: user id; a value is the user's row, in the binary layout of `state/layout.py`. The key `\\x00progress` "
        "holds the partition's progress, in msgpack (`streams/processing/progress.py`).\n",
        [],
    ),
    "repartition": (
        "One record, with the key `progress`: how far the repartitioning of a source is, in msgpack "
        "(`streams/processing/repartition.py`). One topic for each source with `rekey_from`.\n",
        [],
    ),
}


def topic_names() -> dict[str, list[TopicSpec]]:
    """The topics of a deployment with the default settings and one repartitioned source, by their key in TOPICS."""
    repartitioned = {"name": "clickstream", "rekey_from": "shop-clicks"}
    settings = load(environ={}, sources=[repartitioned, {"name": "purchases"}])
    keys = {settings.topic(key): key for key in TOPICS} | dict.fromkeys(settings.source_topics, "sources")
    keys |= {settings.changelog: "changelog", settings.repartition_topic(settings.sources[0]): "repartition"}
    found: dict[str, list[TopicSpec]] = {}
    for spec in specs(settings):
        found.setdefault(keys[spec.name], []).append(spec)
    return found


def topics_page() -> str:
    found = topic_names()
    shown = ("cleanup.policy", "retention.ms", "delete.retention.ms", "max.compaction.lag.ms", "segment.bytes")
    rows = [
        (
            f"`{spec.name}`",
            str(spec.partitions),
            ", ".join(f"`{name}={spec.config[name]}`" for name in shown if name in spec.config),
        )
        for several in found.values()
        for spec in several
    ]
    parts = [
        "# Topics and schemas\n",
        MADE,
        "Names, partitions and configuration with the default settings; the setting `prefix` comes before the names. "
        "All topics have `message.timestamp.type=CreateTime`, and `max.message.bytes` and `min.insync.replicas` from "
        "the settings. Read the outputs with `isolation.level=read_committed`.\n",
        table(("topic", "partitions", "configuration"), rows),
    ]
    for key, several in found.items():
        text, records = TOPICS[key]
        parts.append("## " + ", ".join(spec.name for spec in several) + "\n")
        parts.append(text)
        parts += [record(name, "header" if name == "dead letter" else "field") for name in records]
    return "\n".join(parts)


PAGES: dict[str, Callable[[], str]] = {
    "reference/settings.md": settings_page,
    "reference/command-line.md": commands_page,
    "reference/exit-codes.md": exit_codes_page,
    "reference/metrics.md": metrics_page,
    "reference/topics.md": topics_page,
}


def on_files(files: Any, config: Any) -> Any:
    """mkdocs' hook: add the pages to those of the folder."""
    from mkdocs.structure.files import File

    for name, page in PAGES.items():
        files.append(File.generated(config, name, content=page()))
    return files
