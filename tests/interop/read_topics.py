#!/usr/bin/env python3
"""Reads every event topic as a stranger would: with Confluent's own consumer and Avro deserializer, schemas from the
registry by id, headers by the CloudEvents SDK. Ends with "N passed, N failed".

With --expected (lines of JSON, as publish-samples prints them) the topics must hold just those events, equal
in every field. Without, whatever is there must be readable and well-formed, and something must be there.

The stack is taken from KAFKA_BOOTSTRAP_SERVERS and SCHEMA_REGISTRY_URL.
"""

import argparse
import json
import os
import re
import sys
import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Any

from cloudevents.core.bindings import kafka as cloudevents
from cloudevents.core.formats.json import JSONFormat
from confluent_kafka import OFFSET_BEGINNING, Consumer, DeserializingConsumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_record_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import StringDeserializer

TOPICS = ("task-events", "task-reminders", "notification-events")
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
PATIENCE = 30.0  # seconds without any record before reading is given up
TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Opaque(JSONFormat):
    """Leaves the data alone. The SDK's own format makes text of any bytes that happen to be UTF-8."""

    def read_data(self, body: bytes, datacontenttype: str | None) -> bytes:
        return body


class Unreadable(Exception):
    """A topic that cannot be read at all."""


class Report:
    """Counts what holds; prints a line for each check."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed = 0

    def check(self, sentence: str, problems: list[str]) -> None:
        if not problems:
            self.passed += 1
            print(f"ok {sentence}")
            return
        self.failed += 1
        print(f"FAILED {sentence}")
        for problem in problems[:5]:
            print(f"    {problem}")
        if len(problems) > 5:
            print(f"    … and {len(problems) - 5} more")


@dataclass
class Record:
    """A record twice: its bytes, and what the deserializer made of them."""

    topic: str
    place: str
    key: str | None
    raw: bytes | None
    headers: list[tuple[str, bytes]]
    schema_id: int | None = None
    record: str | None = None  # the full name of its Avro record
    value: dict[str, Any] | None = None
    problem: str | None = None


def plain(value: Any) -> Any:
    """A decoded value in JSON's types: instants as microseconds, dates as days since 1970, UUIDs as text."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, datetime):
        return (value - EPOCH) // timedelta(microseconds=1)
    if isinstance(value, date):
        return (value - EPOCH.date()).days
    if isinstance(value, uuid.UUID):
        return str(value)
    return value


def differences(found: Any, expected: Any, path: str = "") -> list[str]:
    """Where two values in JSON's types differ, by path."""
    if isinstance(found, dict) and isinstance(expected, dict):
        problems = []
        for name in sorted(found.keys() | expected.keys()):
            below = f"{path}.{name}" if path else name
            if name not in found:
                problems.append(f"{below} is missing")
            elif name not in expected:
                problems.append(f"{below} is not expected")
            else:
                problems += differences(found[name], expected[name], below)
        return problems
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        return [
            problem
            for index, (one, other) in enumerate(zip(found, expected))
            for problem in differences(one, other, f"{path}[{index}]")
        ]
    # 1 == True in Python, and not on the wire.
    if type(found) is type(expected) and found == expected:
        return []
    return [f"{path} is {found!r}, not {expected!r}"]


def settings() -> dict[str, Any]:
    return {
        "bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"],
        "group.id": f"interop-{uuid.uuid4()}",  # assigned by hand and never committed: it only has to be set
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
    }


def partitions(consumer: Consumer, topic: str) -> dict[TopicPartition, int]:
    """Every partition, from its first record, and how many records it holds now."""
    metadata = consumer.list_topics(topic, timeout=PATIENCE).topics[topic]
    if metadata.error is not None:
        raise Unreadable(f"{topic}: {metadata.error}")
    held = {}
    for number in metadata.partitions:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=PATIENCE)
        held[TopicPartition(topic, number, OFFSET_BEGINNING)] = high - low
    return held


def read(topic: str, registry: SchemaRegistryClient) -> list[Record]:
    """Everything that is in a topic now, in the order of its partitions."""
    strategy = {"subject.name.strategy": topic_record_subject_name_strategy}
    raw = Consumer(settings())
    decoding = DeserializingConsumer(
        settings()
        | {
            "key.deserializer": StringDeserializer("utf_8"),
            "value.deserializer": AvroDeserializer(registry, conf=strategy),
        }
    )
    records = []
    try:
        held = partitions(raw, topic)
        for consumer in (raw, decoding):
            consumer.assign([TopicPartition(topic, at.partition, OFFSET_BEGINNING) for at in held])
        found: dict[tuple[int, int], Record] = {}
        while len(found) < sum(held.values()):
            message = raw.poll(PATIENCE)
            if message is None:
                raise Unreadable(f"{topic}: {len(found)} of {sum(held.values())} records after {PATIENCE} s")
            if message.error():
                raise Unreadable(f"{topic}: {message.error()}")
            at = (message.partition(), message.offset())
            key = message.key()
            found[at] = Record(
                topic=topic,
                place=f"{topic}[{at[0]}]@{at[1]}",
                key=None if key is None else key.decode(),
                raw=message.value(),
                headers=message.headers() or [],
            )
        # A record that the deserializer refuses is raised by poll; the consumer has moved past it.
        for _ in range(len(found)):
            try:
                message = decoding.poll(PATIENCE)
            except Exception as error:  # any failure is a finding about one record
                refused = getattr(error, "kafka_message", None)
                if refused is None:
                    raise
                found[(refused.partition(), refused.offset())].problem = f"{error}"
                continue
            if message is None:
                break
            record = found.get((message.partition(), message.offset()))
            if record is not None:
                record.value = plain(message.value())
        records = [found[at] for at in sorted(found)]
    finally:
        raw.close()
        decoding.close()
    for record in records:
        if record.raw is None or len(record.raw) < 5 or record.raw[0] != 0:
            continue
        record.schema_id = int.from_bytes(record.raw[1:5], "big")
        try:
            schema = json.loads(registry.get_schema(record.schema_id).schema_str or "{}")
            record.record = f"{schema.get('namespace')}.{schema.get('name')}"
        except SchemaRegistryError as error:
            record.problem = f"{error}"
    return records


def event_type(fullname: str | None) -> str | None:
    """com.carillon.task.created.v1 for com.carillon.task.TaskCreated."""
    if fullname is None or fullname.count(".") < 2:
        return None
    namespace, name = fullname.rsplit(".", 1)
    family = namespace.rsplit(".", 1)[1]
    return f"{namespace}.{name[len(family):].lower()}.v1"


def check_decoded(record: Record) -> list[str]:
    if record.problem:
        return [record.problem]
    return [] if isinstance(record.value, dict) else ["no value"]


def check_subject(record: Record, registry: SchemaRegistryClient, known: dict[tuple[str, int], str]) -> list[str]:
    """The schema is registered under TopicRecordName, as the id that the record carries."""
    if record.schema_id is None:
        return ["not in Confluent framing"]
    subject = f"{record.topic}-{record.record}"
    if (subject, record.schema_id) not in known:
        try:
            registered = registry.lookup_schema(subject, registry.get_schema(record.schema_id))
            right = registered.schema_id == record.schema_id
            known[(subject, record.schema_id)] = "" if right else f"is registered as {registered.schema_id}"
        except Exception as error:  # whatever the registry says
            known[(subject, record.schema_id)] = str(error)
    problem = known[(subject, record.schema_id)]
    return [f"{subject}, id {record.schema_id}: {problem}"] if problem else []


def check_cloudevent(record: Record) -> list[str]:
    """The headers make a CloudEvent that says the same as the body."""
    names = [name for name, _ in record.headers]
    problems = [f"header {name} is there {count} times" for name, count in Counter(names).items() if count > 1]
    message = cloudevents.KafkaMessage(headers=dict(record.headers), key=record.key, value=record.raw or b"")
    for name in ("ce_specversion", "ce_id", "ce_type", "ce_source"):
        if name not in message.headers:  # the SDK would make them up
            problems.append(f"header {name} is missing")
    try:
        event = cloudevents.from_kafka(message, Opaque())
    except Exception as error:  # whatever the SDK says
        return [*problems, f"{type(error).__name__}: {error}"]
    value = record.value or {}
    about = (value.get("task") or {}).get("id") or (value.get("notification") or {}).get("task_id")
    time = event.get_time()
    found = {
        "specversion": event.get_specversion(),
        "id": event.get_id(),
        "type": event.get_type(),
        "subject": event.get_subject(),
        "time": None if time is None else plain(time),
        "datacontenttype": event.get_datacontenttype(),
        "partitionkey": event.get_extension("partitionkey"),
    }
    expected = {
        "specversion": "1.0",
        "id": value.get("event_id"),
        "type": event_type(record.record),
        "subject": f"task/{about}",
        "time": value.get("occurred_at"),
        "datacontenttype": "application/avro",
        "partitionkey": value.get("user_id"),
    }
    problems += differences(found, expected)
    if not re.fullmatch(r"/carillon/[a-z-]+", event.get_source()):
        problems.append(f"source is {event.get_source()!r}")
    if event.get_data() != record.raw:
        problems.append("the data are not the value of the record")
    parent = message.headers.get("traceparent")
    if parent is not None and not TRACEPARENT.fullmatch(parent.decode()):
        problems.append(f"traceparent is {parent!r}")
    return problems


def check_ids(record: Record) -> list[str]:
    event_id = uuid.UUID((record.value or {}).get("event_id", str(uuid.UUID(int=0))))
    return [] if event_id.version == 7 else [f"event_id {event_id} is no UUIDv7"]


def check_expected(report: Report, records: list[Record], expected: list[dict[str, Any]]) -> None:
    """Just those events, equal in every field and header."""
    by_id = {(r.topic, (r.value or {}).get("event_id")): r for r in records}
    for event in expected:
        name = event["record"]
        record = by_id.pop((event["topic"], event["value"]["event_id"]), None)
        sentence = f"{name} {event['value']['event_id']} is there, equal in every field, header and key"
        if record is None:
            report.check(sentence, ["it is not there"])
            continue
        problems = differences(record.value, event["value"])
        headers = {key: value.decode() for key, value in record.headers}
        problems += differences(headers, event["headers"], "header")
        problems += differences(record.key, event["key"], "key")
        if (record.record or "").rsplit(".", 1)[-1] != name:
            problems.append(f"its schema is that of {record.record}")
        report.check(sentence, problems)
    report.check(
        f"there are just those {len(expected)} events",
        [f"{record.place} is not expected" for record in by_id.values()]
        + ([] if len(records) == len(expected) else [f"there are {len(records)} records"]),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prefix", default="", help="of the topics' names")
    parser.add_argument("--expected", help="file with the events that must be there, as lines of JSON")
    arguments = parser.parse_args()

    report = Report()
    registry = SchemaRegistryClient({"url": os.environ["SCHEMA_REGISTRY_URL"]})
    known: dict[tuple[str, int], str] = {}
    records: list[Record] = []
    for name in TOPICS:
        try:
            found = read(arguments.prefix + name, registry)
        except Unreadable as error:
            report.check(f"{name} can be read", [f"{error}"])
            continue
        records += found
        kinds = Counter((r.record or "?").rsplit(".", 1)[-1] for r in found)
        print(f"{arguments.prefix}{name}: " + (", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items())) or "empty"))
        report.check(f"{name} holds events", [] if found else ["it is empty"])
        checks = {
            f"{name}: AvroDeserializer reads every record": check_decoded,
            f"{name}: every schema is registered under topic and record name": lambda r: check_subject(r, registry, known),
            f"{name}: every record is a CloudEvent that says what its body says": check_cloudevent,
            f"{name}: every event has an id of its own, a UUIDv7": check_ids,
        }
        for sentence, check in checks.items():
            report.check(sentence, [f"{r.place}: {problem}" for r in found for problem in check(r)])
    if arguments.expected:
        with open(arguments.expected, encoding="utf-8") as lines:
            check_expected(report, records, [json.loads(line) for line in lines])
    print(f"{report.passed} passed, {report.failed} failed")
    return 0 if report.failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
