"""Settings [topics]: names, partitions, replication and retention."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from streams.config.sections.section import Section, TopicName


class Topics(Section):
    """Names of the topics (without the prefix), partitions, replication, and retention in hours (-1: no limit)."""

    partitions: Annotated[int, Field(gt=0, le=10_000)] = 4
    """Partitions of the sources, outputs, commands and the changelog; it cannot be changed later."""
    replication: Annotated[int, Field(gt=0, le=32)] = 3
    """Replicas of each topic that shoal creates."""
    min_insync_replicas: Annotated[int, Field(gt=0, le=32)] = 2
    """`min.insync.replicas` of each topic that shoal creates; at most `topics.replication`."""
    source_retention: Annotated[int, Field(ge=-1, le=876_000)] = 168
    """Retention of the sources in hours; -1 keeps all records."""
    output_retention: Annotated[int, Field(ge=-1, le=876_000)] = 720
    """Retention of segment changes and alerts in hours; -1 keeps all records."""
    dead_letter_retention: Annotated[int, Field(ge=-1, le=876_000)] = 2160
    """Retention of dead letters in hours; -1 keeps all records."""
    lineage_retention: Annotated[int, Field(ge=-1, le=876_000)] = -1
    """Retention of the segment lineage in hours; -1 keeps all records."""
    command_retention: Annotated[int, Field(ge=-1, le=876_000)] = 168
    """Retention of commands and their receipts in hours; -1 keeps all records."""
    training_retention: Annotated[int, Field(ge=-1, le=876_000)] = 720
    """Retention of training rows in hours; -1 keeps all records."""
    max_message_bytes: Annotated[int, Field(ge=1_048_576, le=1 << 30)] = 16 << 20
    """`max.message.bytes` of the topics, and the largest request of a producer, in bytes."""
    segment_changes: TopicName = "segment-changes"
    """Name of the topic of segment changes."""
    segments: TopicName = "segments"
    """Name of the compacted topic of each user's current segment."""
    alerts: TopicName = "alerts"
    """Name of the topic of alerts."""
    dead_letters: TopicName = "dead-letters"
    """Name of the topic of rejected records."""
    training_rows: TopicName = "training-rows"
    """Name of the topic of training rows."""
    models: TopicName = "models"
    """Name of the compacted topic of model versions."""
    segment_lineage: TopicName = "segment-lineage"
    """Name of the topic of segment lineage."""
    commands: TopicName = "commands"
    """Name of the topic of commands."""
    commands_results: TopicName = "commands-results"
    """Name of the topic of the commands' receipts and the learner's answers."""

    @model_validator(mode="after")
    def _check_replicas(self) -> Topics:
        if self.min_insync_replicas > self.replication:
            raise ValueError(
                "topics.min_insync_replicas must be at most topics.replication: no record could be written"
            )
        return self
