"""What a run has lost, repeated, miscounted, left out or made up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from state import rows
from state.vocabulary import VOCABULARY
from streams.offline import feature_table
from tests.faults import oracle
from tests.faults.evidence import Evidence, Move
from tests.faults.oracle import MEASURES, UNIT
from tests.faults.order import replayed, steps_back

# the product's columns of the oracle's MEASURES, by the product's names
_NAMES = (
    *("page_views", "product_views", "searches", "carts", "cart_removals", "checkouts"),
    *("orders", "items", "spend", "sessions", "refunds"),
)
_COLUMNS = VOCABULARY.columns(_NAMES)


@dataclass(slots=True)
class Report:
    """Numbers that are nil where all is well, then figures."""

    lost: int = 0  # events: not applied, or applied and not in the row
    repeated: int = 0  # events counted more than once
    wrong_cells: int = 0  # of the windowed columns, all users, as of the end
    wrong_users: int = 0  # there and not expected, or the other way round; recent ids that are others
    missing: int = 0  # transitions
    invented: int = 0
    repeated_transitions: int = 0
    letters: int = 0  # dead letters too few, too many or for another reason
    receipts: int = 0  # of erasures: too few or too many
    clashes: int = 0  # progress records that contradict their journal
    back: int = 0  # progress records that stand for less than the one before
    repeated_ids: int = 0  # of alerts, for a reader of what is committed
    events: int = 0
    users: int = 0
    transitions: int = 0
    causes: dict[str, int] = field(default_factory=dict)
    # for a reader of what is not committed too, who keeps the last of each id: an aborted transaction may have had
    # another order, or another version, than the one that took its place, and so ids that never came again
    any_missing: int = 0
    any_invented: int = 0
    dropped: int = 0  # outputs that only such a reader sees
    examples: list[str] = field(default_factory=list)  # of what is wrong, without user ids' own meaning

    def faults(self) -> dict[str, int]:
        """What is not nil and should be."""
        names = (
            "lost",
            "repeated",
            "wrong_cells",
            "wrong_users",
            "missing",
            "invented",
            "repeated_transitions",
            "any_missing",
            "letters",
            "receipts",
            "clashes",
            "back",
            "repeated_ids",
        )
        return {name: getattr(self, name) for name in names if getattr(self, name)}


def verify(evidence: Evidence) -> Report:
    """Compare a run with the oracle."""
    parts = {
        part: replayed(evidence.progress.get(part, []), evidence.sources, logs, evidence.lateness)
        for part, logs in evidence.logs.items()
    }
    found, wanted = oracle.expected(parts, evidence.versions)
    report = Report(
        events=sum(len(applied.events) for applied in parts.values()),
        users=len(found.users),
        transitions=len(wanted),
        causes=dict(Counter(move.cause for move in wanted)),
        clashes=sum(one.clashes for one in parts.values()),
        lost=sum(applied.left for applied in parts.values()),
    )
    for part, standing in evidence.progress.items():
        back = steps_back(standing)
        report.back += len(back)
        report.examples += [f"partition {part}, progress {one}" for one in back[:3]]
    report.repeated_ids = sum(count - 1 for count in Counter(evidence.ids).values())
    _rows(report, evidence, found)
    _cells(report, evidence, found)
    _transitions(report, evidence, wanted)
    _letters(report, evidence)
    _receipts(report, evidence)
    return report


def _rows(report: Report, evidence: Evidence, found: oracle.History) -> None:
    """Totals and recent ids of every user."""
    place = found.living()
    stored = {key.decode(): row for key, row in evidence.rows.items()}
    both = [name for name in place if name in stored]
    report.wrong_users += len(place) + len(stored) - 2 * len(both)
    if not both:
        report.lost += len(found.user)
        return
    whole = found.con.execute(f"""
        select u, count(*), {", ".join(f"sum({name})::bigint" for name in MEASURES)} from element group by u order by u
    """).fetchnumpy()
    _, _, *totals = whole.values()
    at = np.array([place[name] for name in both])
    heads = [rows.join([stored[name] for name in names]).heads[["totals", "ids"]] for names in _chunks(both)]
    head = {name: np.concatenate([one[name] for one in heads]) for name in ("totals", "ids")}
    # an event is one of the six types, an item (each line buys one), a refund or something else
    # plain sums over users would let a loss of one hide a repeat of another
    differs = head["totals"][:, _COLUMNS] - np.stack(totals, 1)[at]
    countable = [i for i, name in enumerate(MEASURES) if name not in ("spend", "sessions", "orders")]
    report.lost += int(-np.minimum(differs[:, countable], 0).sum())
    report.repeated += int(np.maximum(differs[:, countable], 0).sum())
    others = [i for i in range(len(MEASURES)) if i not in countable]
    report.wrong_cells += int((differs[:, others] != 0).sum())
    for name, ids in zip(both, head["ids"].tolist(), strict=True):
        report.wrong_users += [one for one in ids if one] != [_hash(one) for one in found.idents[place[name]]]


def _cells(report: Report, evidence: Evidence, found: oracle.History) -> None:
    """All windowed columns of every user once the last record was applied, as of the latest clock of a row."""
    place = found.living()
    erased = {found.users[i] for i in found.gone} - place.keys()  # perhaps after the last record
    stored = {key.decode(): row for key, row in evidence.early.items() if key.decode() not in erased}
    both = [name for name in place if name in stored]
    report.wrong_users += len(place) + len(stored) - 2 * len(both)
    if not both:
        return
    now = max(rows.clock_of(row) for row in stored.values())
    number = np.bincount(found.user, minlength=len(found.users))
    for names in _chunks(both):
        got = feature_table.window_sums([stored[name] for name in names], now)[1][:, :, _COLUMNS]
        at = np.array([place[name] for name in names])
        want = oracle.sums(found, at, number[at], np.full(len(at), now // UNIT))
        wrong = got != want
        report.wrong_cells += int(wrong.sum())
        for i in np.flatnonzero(wrong.any((1, 2)))[:3].tolist():
            window, measure = np.argwhere(wrong[i])[0].tolist()
            report.examples.append(
                f"{names[i]} {MEASURES[measure]} {window}: {got[i, window, measure]} for {want[i, window, measure]}"
            )


def _chunks(given: list[str], size: int = 50_000) -> list[list[str]]:
    return [given[start : start + size] for start in range(0, len(given), size)]


def _hash(ident: str) -> int:
    from xxhash import xxh3_64_intdigest

    return xxh3_64_intdigest(ident.encode()) or 1


def _transitions(report: Report, evidence: Evidence, wanted: Iterable[Move]) -> None:
    want = {move.ident: move for move in wanted}
    got = evidence.changes
    once = {move.ident: move for move in reversed(got)}
    report.repeated_transitions = len(got) - len(once)
    report.missing, report.invented = _compare(want, once, report.examples)
    last = {move.ident: move for move in evidence.any_changes}
    report.dropped = len(evidence.any_changes) - len(evidence.changes)
    report.any_missing, report.any_invented = _compare(want, last, [])


def _compare(want: dict[str, Move], got: dict[str, Move], examples: list[str]) -> tuple[int, int]:
    """Transitions that lack, or are others than they should be, and such that should not be."""
    missing = [move for ident, move in want.items() if got.get(ident) != move]
    invented = [move for ident, move in got.items() if want.get(ident) != move]
    examples += [f"missing {move}" for move in missing[:3]] + [f"invented {move}" for move in invented[:3]]
    return len(missing), len(invented)


def _receipts(report: Report, evidence: Evidence) -> None:
    got, want = Counter(evidence.receipts), Counter(evidence.requests)
    report.receipts = (want - got).total() + (got - want).total()


def _letters(report: Report, evidence: Evidence) -> None:
    want = Counter(
        (topic, part, record.offset, record.reason)
        for part, logs in evidence.logs.items()
        for topic, log in zip(evidence.sources, logs, strict=True)
        for record in log
        if record.reason
    )
    got = Counter(evidence.letters)
    report.letters = (want - got).total() + (got - want).total()
    report.examples += [f"letter {one}" for one in [*(want - got), *(got - want)][:3]]
