"""A scan and what it leaves to the parser give what the parser gives alone, byte for byte, whatever the records are.

SHOAL_FUZZ_RECORDS=200000 makes the fuzz longer; SHOAL_FUZZ_SEED chooses another one.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence

import pytest

from streams.schemas.event_batch import EVENT_COLUMNS, RECORD_COLUMNS, EventBatch
from streams.schemas.event_fields import FIELDS
from streams.schemas.flat_json import FlatJson
from streams.schemas.record_batch import RecordBatch
from streams.schemas.rees46 import Rees46
from streams.schemas.schema import Options
from tests.support.events.rejects import odd, poison

NOW = 1_700_000_000_000
INTERPRETED = "NUMBA_DISABLE_JIT" in os.environ
FUZZ_RECORDS = int(os.environ.get("SHOAL_FUZZ_RECORDS", 2_000 if INTERPRETED else 12_000))
FUZZ_SEED = int(os.environ.get("SHOAL_FUZZ_SEED", 0))
Made = tuple[bytes | None, bytes | None, int]  # key, value, record time

RENAMED = Options(
    fields={"wer": "user_id", "größe": "quantity", "t": "event_time", "user_id": "category", "x" * 130: "brand"},
    types={"buy": "purchase", "kauf ✓": "purchase", "view": "other", "": "search", "y" * 130: "refund"},
    currency="€",
    ahead=0,
    max_bytes=300,
)
SCHEMAS = {
    "plain": FlatJson(),
    "renamed": FlatJson(RENAMED),
    "rees46": Rees46(),
    "no currency": FlatJson(Options(currency="")),
}


def fetch(records: Sequence[Made]) -> RecordBatch:
    n = len(records)
    offsets = [3 * i for i in range(n)]
    keys, values, stamps = (list(column) for column in zip(*records, strict=True)) if records else ([], [], [])
    return RecordBatch("clickstream", 2, 0, 3 * n, offsets, keys, values, stamps)  # type: ignore[arg-type]


def assert_same(found: EventBatch, expected: EventBatch) -> None:
    for name in ("record", *RECORD_COLUMNS, *EVENT_COLUMNS):
        one, other = getattr(found, name), getattr(expected, name)
        assert one.dtype == other.dtype, name
        assert one.flags.c_contiguous
        assert one.tolist() == other.tolist(), name
    assert found.users == expected.users
    assert list(found.rejects.items()) == list(expected.rejects.items())  # dead letters go in this order


def compare(schema: FlatJson, records: Sequence[Made], now: int | None) -> EventBatch:
    """Decode records in both ways; what they became."""
    batch = fetch(records)
    found = schema.decode(batch, source=3, key_before=NOW - 5_000, now=now)
    assert_same(found, schema.parse_events(batch, source=3, key_before=NOW - 5_000, now=now))
    return found


# -- single records ---------------------------------------------------------------------------------------------------

PLAIN = {
    "event_time": "2023-11-14T22:13:20.000Z",
    "event_type": "purchase",
    "user_id": "u1",
    "event_id": "e1",
    "session_id": 17,
    "transaction_id": "",
    "category": "Größe/ß",
    "brand": None,
    "price": 12.34,
    "quantity": -2,
    "currency": "USD",
    "country": "DE",
    "region": "BY",
    "city": "x" * 128,
    "note": "unknown",
    "score": 1.5e300,
    "flag": True,
    "other": False,
}


@pytest.mark.parametrize("now", [NOW, None])
@pytest.mark.parametrize("separators", [(",", ":"), (" ,\t", "\r\n: ")])
def test_plain_records_are_not_parsed(
    separators: tuple[str, str], now: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = json.dumps(PLAIN, separators=separators, ensure_ascii=False).encode()
    found = compare(SCHEMAS["plain"], [(b"u1", value, NOW)] * 3, now)
    monkeypatch.delattr(FlatJson, "parse_events")
    assert_same(
        SCHEMAS["plain"].decode(fetch([(b"u1", value, NOW)] * 3), source=3, key_before=NOW - 5_000, now=now), found
    )
    assert (found.users, found.amount.tolist(), found.reason.tolist()) == ([b"u1"] * 3, [-2468] * 3, [0] * 3)


@pytest.mark.parametrize("now", [NOW, None])
@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_bad_and_odd_records(schema: FlatJson, now: int | None) -> None:
    records = [(r.key, r.value, r.stamp) for r in (poison("u", NOW) | odd("u", NOW)).values()]
    for record in records:
        compare(schema, [record], now)
    compare(schema, records, now)


def test_no_records() -> None:
    assert len(compare(SCHEMAS["plain"], [], NOW)) == 0


@pytest.mark.parametrize("deep", [63, 64, 65])
def test_nesting_is_judged_alike_whatever_stands_beside(deep: int) -> None:
    """Records of 63, 64 and 65 levels, the object itself among them."""
    nested = json.dumps(PLAIN)[:-1].encode() + b', "deep": ' + b"[" * (deep - 1) + b"]" * (deep - 1) + b"}"
    found = set()
    for other in (b"{", b'{"a":"[["}', json.dumps(PLAIN).encode()):
        found.add(compare(SCHEMAS["plain"], [(b"u1", nested, NOW), (b"u1", other, NOW)], NOW).reason[0])
    found.add(compare(SCHEMAS["plain"], [(b"u1", nested, NOW)], NOW).reason[0])
    assert len(found) == 1


def test_prices_are_rounded_as_the_parser_rounds_them() -> None:
    rng = random.Random(FUZZ_SEED)
    records: list[Made] = []
    for _ in range(500 if INTERPRETED else 3_000):
        digits = str(rng.randrange(10 ** rng.randint(1, 17)))
        point = rng.randint(0, len(digits))
        price = digits if point == len(digits) else f"{digits[:point] or 0}.{digits[point:]}"
        value = f'{{"user_id":"u","event_type":"a","event_time":1,"price":{price}}}'
        records.append((b"u", value.encode(), NOW))
    for half_cents in range(0, 400, 5):
        value = f'{{"user_id":"u","event_type":"a","event_time":1,"price":0.{half_cents:03}}}'
        records.append((b"u", value.encode(), NOW))
    compare(SCHEMAS["plain"], records, NOW)


# -- values -----------------------------------------------------------------------------------------------------------


def listed(text: str, separator: str = " ") -> list[str]:
    return text.split(separator)


BLANKS = (" ", "\t", "\n", "\r", "  ", "\v", "\0", "\u00a0")
TEXTS = [
    *listed("a view purchase buy kauf✓ USD € usd 123 -0 null ä 日本 \U0001f600 [{ } :, \x7f / ' x,y"),
    *("", "kauf ✓", "x" * 127, "x" * 128, "x" * 129, "ß" * 64, "ß" * 65, "y" * 130, "x" * 1_024, "x" * 1_025),
]
NUMBERS = [
    *listed("0 1 -1 7 42 -0 00 01 -01 +1 1. .5 - 0.0 -0.0 -0.5 1.25 19.99 0.005 1.005 2.675 0x10 1_0 \uff11"),
    *listed("1e2 1E+2 1e 1e+ 1e-2 1.5e3 1.e3 1e999 -1e999 1e-999 NaN Infinity -Infinity"),
    *listed("999999999999999 1000000000000000 9007199254740993 18446744073709551616 -99999999999999 -999999999999999"),
    *listed("0.1234567890123456 123456789.123456 12345678901.12345 9999999999.99 10000000000.00 10000000000.01"),
    *listed("1000000000 1000000001 -1000000000 -1000000001 10000000000"),
    *listed("1700000000000 1700000300000 1700000300001 253402300799999 253402300800000"),
    *("9" * 128, "9" * 129, "9" * 400, "0." + "1" * 300),
]
OTHERS = [
    *listed(r"""true false null tru nul nulx True [] {} [1] {"user_id":"v"} " "\" "\u0041" "\ud800" "\ud83d\ude00" """),
    *listed(r""""\u0000" "\/" "\x" "a\n" 'a' /**/1"""),
    *("", '"\n"', '"\0"', '"\ud800"', "[" * 70 + "]" * 70),
]
TIMES = [
    *listed("2023-11-14T22:13:20Z, 2023-11-14T22:13:20.123Z, 2023-11-14 22:13:20 UTC, 2023-11-14T22:13:20 UTC", ", "),
    *listed("2023-11-14 22:13:20Z, 2023-11-14t22:13:20z, 2023-11-14T22:13:20.5Z, 2023-11-14T22:13:20,123Z", ", "),
    *listed(
        "2023-11-14T22:13:20.123456Z, 2023-11-14T22:13:20.1/3Z, 2023-11-14T22:13:20.12:Z, 2023-11-14T22:13:2Z", ", "
    ),
    *listed("2023-11-14T22:13:20UTC, 2023-11-14T22:13:20 GMT, 2023-11-14T22:13:20 UTX, 2023-11-14T22:13:20.123z", ", "),
    *listed("2023-11-14T22:13:20+00:00, 2023-11-14T22:13:20\tUTC, 2023-11-14T22-13:20Z, 2023/11/14T22:13:20Z", ", "),
    *listed("1900-02-29T00:00:00Z, 2000-02-29T00:00:00Z, 2023-02-29T00:00:00Z, 2024-02-29T00:00:00Z", ", "),
    *listed("2100-02-29T00:00:00Z, 1969-12-31T23:59:59Z, 1970-01-01T00:00:00Z, 9999-12-31T23:59:59Z", ", "),
    *listed("0000-01-01T00:00:00Z, 2023-00-10T00:00:00Z, 2023-13-10T00:00:00Z, 2023-04-31T00:00:00Z", ", "),
    *listed("2023-04-00T00:00:00Z, 2023-11-14T24:00:00Z, 2023-11-14T22:60:00Z, 2023-11-14T22:13:60Z", ", "),
    *listed("2023-11-14T22:13:2 Z, 2023-11-14T22:13:2:Z, \uff12023-11-14T22:13:20Z", ", "),
]
NAMES: dict[str, dict[str, str]] = {  # of fields, where they differ
    "plain": {},
    "renamed": {ours: theirs for theirs, ours in RENAMED.fields.items()},
    "rees46": {"session_id": "user_session", "category": "category_code"},
    "no currency": {},
}


def test_each_value_of_each_field() -> None:
    """One field of a good record has another value; one more record has that value first and the good one behind."""
    texts = [json.dumps(text, ensure_ascii=False) for text in (*TEXTS, *TIMES)]
    for source, now in (("plain", NOW), ("renamed", None)):
        currency = '"€"' if source == "renamed" else '"USD"'
        good = {"user_id": '"u"', "event_time": "1", "event_type": '"view"', "currency": currency}
        records: list[Made] = []
        for field in FIELDS:
            for value in (*NUMBERS, *OTHERS, *texts):
                key = value.strip('"') if field == "user_id" else "u"
                members = [member(source, name, text) for name, text in good.items() if name != field]
                members.append(member(source, field, value))
                twice = [member(source, field, value), *(member(source, name, text) for name, text in good.items())]
                records.append((encoded(key), encoded(f"{{{','.join(members)}}}"), NOW))
                records.append((encoded("u"), encoded(f"{{{','.join(twice)}}}"), NOW))
        if INTERPRETED:
            records = records[:: len(records) // FUZZ_RECORDS + 1]
        compare(SCHEMAS[source], records, now)


def member(source: str, field: str, value: str) -> str:
    """A field in JSON, under its name in the source."""
    return f'"{NAMES[source].get(field, field)}":{value}'


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


# -- fuzz -------------------------------------------------------------------------------------------------------------

JUNK = (
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xc0\xaf",
    b"\0",
    b"\\",
    *(b'"{}[],:'[i : i + 1] for i in range(7)),
)
USERS = ("u", "u1", "ü", "user-0001", "42", "-7", "0")
LONG_USERS = ("x" * 128, "x" * 129, "x" * 1_024)


class Maker:
    """Makes records that are good, odd or bad, of one source.

    theirs: the source's names of fields, where they differ. odd: how often each part of the record at hand is odd.
    """

    def __init__(self, rng: random.Random, theirs: dict[str, str]) -> None:
        self.rng, self.theirs, self.odd = rng, theirs, 0.0

    def record(self) -> Made:
        rng = self.rng
        self.odd = rng.choice((0.0, 0.0, 0.01, 0.1))
        more = rng.choices([*FIELDS, "note", "", "ä", "price "], k=rng.randint(0, 9))
        fields = ["event_time", "event_type", "user_id", *more]
        if not self.is_odd():
            fields = list(dict.fromkeys(fields))  # else some of them may stand twice
        rng.shuffle(fields)
        user = rng.choice(LONG_USERS if self.is_odd() else USERS)
        text = f",{self.blank()}".join(self.member(field, user) for field in fields)
        value = f"{self.blank()}{{{self.blank()}{text}}}{self.blank()}".encode("utf-8", "surrogatepass")
        if rng.random() < 0.25:
            value = damaged(rng, value)
        other = rng.choice((None, b"", b" ", b"{}", b"[]", b"1", b"null", value + value, b"\xef\xbb\xbf" + value))
        key = rng.choice((None, b"", b"v", b"\xff", user.encode() + b"\0")) if self.is_odd() else user.encode()
        stamp = rng.choice((0, -1, NOW - 400_000, NOW + 10**9, 2**63 - 1, -(2**63))) if self.is_odd() else NOW
        return key, other if self.is_odd() else value, stamp

    def is_odd(self) -> bool:
        return self.rng.random() < self.odd

    def blank(self) -> str:
        return self.rng.choice(BLANKS) if self.is_odd() else ""

    def text(self, text: str) -> str:
        """A text in JSON, in one of the ways in which it can be written."""
        return json.dumps(text, ensure_ascii=self.is_odd())

    def member(self, field: str, user: str) -> str:
        name = field if self.is_odd() else self.theirs.get(field, field)
        return f"{self.text(name)}{self.blank()}:{self.blank()}{self.value(field, user)}{self.blank()}"

    def value(self, field: str, user: str) -> str:
        """A value of a field in JSON, or what is none."""
        rng = self.rng
        if self.is_odd():
            pool = rng.choice((TEXTS, NUMBERS, OTHERS, TIMES))
            value = rng.choice(pool)
            return value if pool in (NUMBERS, OTHERS) else self.text(value)
        if field == "event_time":
            return rng.choice((self.text(TIMES[0]), self.text(TIMES[1]), str(NOW - rng.randrange(10**9))))
        if field == "event_type":
            return self.text(rng.choice(("view", "purchase", "cart", "buy", "kauf ✓", "wave")))
        if field == "user_id":
            return user if user.lstrip("-").isdigit() and rng.random() < 0.5 else self.text(user)
        if field == "price":
            return rng.choice((f"{rng.random() * 100:.2f}", repr(rng.random() * 100), str(rng.randrange(100)), "null"))
        if field == "quantity":
            return str(rng.randint(-3, 9))
        if field == "currency":
            return self.text(rng.choice(("USD", "USD", "USD", "€", "")))
        text = "".join(rng.choices("abcXYZ019-_ äß", k=rng.randint(0, 40)))
        return rng.choice((self.text(text), self.text(text), str(rng.getrandbits(rng.randint(1, 60)))))


def damaged(rng: random.Random, text: bytes) -> bytes:
    """A text with some bytes replaced, left out or put in, or cut."""
    for _ in range(rng.randint(1, 3)):
        at, cut = rng.randint(0, len(text)), rng.choice((0, 0, 1, 1, 2, 9))
        new = rng.choice((b"", rng.choice(JUNK), rng.randbytes(rng.randint(1, 3)), text[at : at + 5]))
        text = text[:at] + new + text[at + cut :]
    return text[: rng.randint(0, len(text))] if rng.random() < 0.1 else text


def test_fuzz() -> None:
    rng = random.Random(FUZZ_SEED)
    made = scanned = rejected = 0
    while made < FUZZ_RECORDS:
        name = rng.choice(list(SCHEMAS))
        maker = Maker(rng, NAMES[name])
        records = [maker.record() for _ in range(rng.choice((1, 1, 2, 5, 60)))]
        now = rng.choice((NOW, NOW, None))
        found = compare(SCHEMAS[name], records, now)
        made += len(records)
        rejected += len(found.rejects)
        scanned += int(SCHEMAS[name].scan_events(fetch(records), now=now).accepted.sum())
    assert min(scanned, rejected) > made // 5
