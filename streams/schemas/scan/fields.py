"""Finds the values of known fields in flat JSON records, compiled.

The scan takes plain records only: one object, texts without escapes, no value that is nested. Of any other record it
says that it is not sure; such a record may be valid or not. Records have to be UTF-8.

A text is given as its words alone (words.py), and the fields as one record: the compiler counts the references of each
array that is an argument, which would cost more than the rest of a call for one byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from state.compiled import compiled
from streams.schemas.scan.words import Words, byte_at
from streams.schemas.scan.xxh3 import LONGEST, xxh3_64

# kinds of values
MISSING = 0  # the record has no such field
NULL = 1
TEXT = 2
WHOLE = 3  # a whole number other than -0, so that there is no other way to write it
DECIMAL = 4  # a number with a point, without exponent
OTHER = 5  # true, false and other numbers
NOT_SURE = 6  # not plain, or no JSON

MINUS, POINT, ZERO, NINE = map(ord, "-.09")
_QUOTE, _COLON, _COMMA, _OPEN, _CLOSE, _PLUS, _EXPONENT = map(ord, '":,{}+e')
_TO_LOWER = 32  # the bit by which small letters differ from capitals
_FOUR_BYTES = np.uint64(0xFFFFFFFF)
_NULL, _TRUE, _FALS = (np.uint64(int.from_bytes(text, "little")) for text in (b"null", b"true", b"fals"))
_IS_BLANK = np.isin(np.arange(256), [ord(blank) for blank in " \t\n\r"])
# the same byte eight times
_ONES, _TOP_BITS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
_SPACES, _QUOTES, _BACKSLASHES = (_ONES * np.uint64(ord(char)) for char in ' "\\')
_NO_BITS = np.uint64(0)

# a place of a table of words: empty where size is 0
_ENTRY = np.dtype([("hash", "u8"), ("code", "i8"), ("size", "i8"), ("text", "u1", LONGEST)], align=True)
Table = NDArray[np.void]


def word_table(codes: Mapping[str, int]) -> Table:
    """A table of words and their codes. Words that are empty or of more than LONGEST bytes are left out."""
    words = {word.encode("utf-8", "surrogatepass"): code for word, code in codes.items()}
    words = {word: code for word, code in words.items() if 0 < len(word) <= LONGEST}
    places = 64
    while places < 4 * len(words):
        places *= 2
    table = np.zeros(places, _ENTRY)
    for word, code in words.items():
        number = xxh3_64_intdigest(word)
        place = number % places
        while table[place]["size"]:
            place = (place + 1) % places
        table[place] = (number, code, len(word), np.frombuffer(word.ljust(LONGEST, b"\0"), np.uint8))
    return table


def no_fields(count: int) -> NDArray[np.void]:
    """A record for find_fields(): of each known field its kind, and its begin and end in the text."""
    return np.zeros(1, np.dtype([(name, "i8", count) for name in ("kind", "begin", "end")]))


@compiled
def find_fields(words: Words, begin: int, end: int, names: Table, fields: Any) -> bool:
    """Find the known fields of the record from begin to end; whether it is plain, and has none of them twice.

    names: the code of a known field is its index in fields. Begin and end of a text are those between its quotes.
    Fields have no meaning where the answer is False.
    """
    kinds = fields["kind"]
    for field in range(len(kinds)):
        kinds[field] = MISSING
    place = _skip_blanks(words, begin, end)
    if place >= end or byte_at(words, place) != _OPEN:
        return False
    while True:
        name = _skip_blanks(words, place + 1, end)  # behind the brace or the comma
        if name >= end or byte_at(words, name) != _QUOTE:
            return False
        name_end = _text_end(words, name + 1, end)
        if name_end < 0 or name_end - name - 1 > LONGEST:
            return False
        place = _skip_blanks(words, name_end + 1, end)
        if place >= end or byte_at(words, place) != _COLON:
            return False
        place = _skip_blanks(words, place + 1, end)
        kind, value_end = _read_value(words, place, end)
        if kind == NOT_SURE:
            return False
        field = look_up(names, words, name + 1, name_end, -1)
        is_text = kind == TEXT
        if field >= 0:
            if kinds[field] != MISSING:
                return False
            kinds[field], fields["begin"][field], fields["end"][field] = kind, place + is_text, value_end - is_text
        place = _skip_blanks(words, value_end, end)
        if place < end and byte_at(words, place) == _CLOSE:
            return _skip_blanks(words, place + 1, end) == end
        if place >= end or byte_at(words, place) != _COMMA:
            return False


@compiled
def look_up(table: Table, words: Words, begin: int, end: int, default: int) -> int:
    """The code of the word from begin to end, the default where the table has no such word."""
    size = end - begin
    if size == 0 or size > LONGEST:
        return default
    number = xxh3_64(words, begin, size)
    last = len(table) - 1  # a power of two less one
    place = np.int64(number & np.uint64(last))
    while table[place]["size"] > 0:
        entry = table[place]
        if entry["hash"] == number and entry["size"] == size:
            same = True
            for i in range(size):
                same = same and entry["text"][i] == byte_at(words, begin + i)
            if same:
                return entry["code"]
        place = (place + 1) & last
    return default


@compiled
def _skip_blanks(words: Words, place: int, end: int) -> int:
    while place < end and _IS_BLANK[byte_at(words, place)]:
        place += 1
    return place


@compiled
def _text_end(words: Words, place: int, end: int) -> int:
    """The place of the quote that ends a text, -1 where the text is not plain. place: behind its first quote."""
    while place + 8 <= end and _are_plain(words[place]):
        place += 8
    while place < end and _is_plain(byte_at(words, place)):
        place += 1
    return place if place < end and byte_at(words, place) == _QUOTE else -1


@compiled
def _is_plain(byte: int) -> bool:
    """Whether a byte may stand in a plain text."""
    return byte >= ord(" ") and byte != _QUOTE and byte != ord("\\")


@compiled
def _are_plain(eight: np.uint64) -> bool:
    """Whether each of eight bytes may stand in a plain text.

    To subtract 32 from a byte below 32, or 1 from 0, sets its top bit. A byte that borrows from the next one sets the
    top bit itself.
    """
    quotes, backslashes = eight ^ _QUOTES, eight ^ _BACKSLASHES  # 0 where there is one
    others = ((eight - _SPACES) & ~eight) | ((quotes - _ONES) & ~quotes) | ((backslashes - _ONES) & ~backslashes)
    return others & _TOP_BITS == _NO_BITS


@compiled
def _read_value(words: Words, place: int, end: int) -> tuple[int, int]:
    """The kind of the value at a place, and where it ends; the end of a text is behind its quote."""
    first = byte_at(words, place) if place < end else 0
    if first == _QUOTE:
        quote = _text_end(words, place + 1, end)
        return (TEXT, quote + 1) if quote >= 0 else (NOT_SURE, place)
    if first == MINUS or ZERO <= first <= NINE:
        return _read_number(words, place, end)
    four = words[place] & _FOUR_BYTES
    if four == _NULL and place + 4 <= end:
        return NULL, place + 4
    if four == _TRUE and place + 4 <= end:
        return OTHER, place + 4
    if four == _FALS and place + 5 <= end and byte_at(words, place + 4) == ord("e"):
        return OTHER, place + 5
    return NOT_SURE, place


@compiled
def _read_number(words: Words, place: int, end: int) -> tuple[int, int]:
    """The kind of the number at a place, and where it ends."""
    negative = byte_at(words, place) == MINUS
    first = place + negative
    whole_end = _skip_digits(words, first, end)
    if whole_end == first or (byte_at(words, first) == ZERO and whole_end > first + 1):
        return NOT_SURE, place
    number_end = whole_end
    kind = OTHER if negative and byte_at(words, first) == ZERO else WHOLE
    if number_end < end and byte_at(words, number_end) == POINT:
        number_end = _skip_digits(words, whole_end + 1, end)
        if number_end == whole_end + 1:
            return NOT_SURE, place
        kind = DECIMAL
    if number_end < end and byte_at(words, number_end) | _TO_LOWER == _EXPONENT:
        kind, digits = OTHER, number_end + 1
        if digits < end and (byte_at(words, digits) == MINUS or byte_at(words, digits) == _PLUS):
            digits += 1
        number_end = _skip_digits(words, digits, end)
        if number_end == digits:
            return NOT_SURE, place
    return kind, number_end


@compiled
def _skip_digits(words: Words, place: int, end: int) -> int:
    while place < end and ZERO <= byte_at(words, place) <= NINE:
        place += 1
    return place
