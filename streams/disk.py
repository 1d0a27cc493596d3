"""A partition's store as it is found on the local disk: opened, refused, set aside, or rebuilt from the changelog."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from rocksdict import Cache

from state.stores.rocksdb import BrokenStore, ForeignStore, LostChangelog, Meta, RowStore, remove, set_aside
from streams import progress
from streams.errors import StateError
from streams.loss import refuse, tell
from streams.progress import PROGRESS_KEY
from streams.rules import forget_units
from streams.settings import Settings
from streams.standing import Standing

ATTEMPTS = 4  # broken, then lost, then stale: each is met once, and what is built anew has none of them


def open_store(
    settings: Settings, number: int, standing: Standing, *, cache_rows: int, block_cache: Cache, accept_loss: bool,
    now: int,
) -> RowStore:  # fmt: skip
    """The store of a partition, ready to be recovered; now: wall clock, ms.

    StateError for a folder that is another deployment's or cannot be used, LossError where the changelog lacks what
    the rows stand for or once held.
    """
    path = Path(settings.state.datadir) / str(number)
    meta = Meta(
        f"{settings.prefix}{settings.application}", number, settings.topics.partitions,
        changelog=standing.ids[settings.changelog],
    )  # fmt: skip
    at = settings.changelog, number
    again = f"rebuilds partition {number} from what the changelog holds"
    for _ in range(ATTEMPTS):
        store: RowStore | None = None
        try:
            store = RowStore(
                path, meta, cache_rows=cache_rows, block_cache=block_cache, forget=forget_units(settings)
            )
            held = store.offset()
            if held is not None and held > standing.ends[at]:
                refuse(accept_loss, f"{_named(at)} ends at {standing.ends[at]}, {path} stands at {held}", again)
            elif held is not None and _age(store, now) > standing.tombstones / 2:
                # what was erased meanwhile may be gone from the changelog without a trace
                tell(f"{path} was last in step more than half of {at[0]}'s delete.retention.ms ago: rebuilt")
            else:
                if (held or 0) < standing.starts[at]:
                    lost = f"{_named(at)} starts at {standing.starts[at]}, {path} stands at {held or 0}: rows are gone"
                    refuse(accept_loss, lost, "goes on with the rows that there are")
                    store.apply([], [], standing.starts[at])
                if held is None:  # what the changelog holds is read from now on
                    store.note_complete(now)
                return store
            _close(store)
            remove(path)
        except BrokenStore as error:
            _close(store)
            aside = set_aside(path)
            tell(f"{error}: set aside as {aside}, partition {number} is rebuilt from the changelog")
        except LostChangelog as error:
            refuse(accept_loss, str(error), again)
            remove(path)
        except (ForeignStore, OSError) as error:
            raise StateError(str(error)) from error
    raise StateError(f"{path} cannot be opened, nor built anew")


def _close(store: RowStore | None) -> None:
    """Its folder goes anyway, so what it cannot write any more does not matter."""
    if store is not None:
        with suppress(BrokenStore, OSError):
            store.close()


def _age(store: RowStore, now: int) -> int:
    """ms since the rows were last known to be in step with the changelog, or since a recovery that was cut short began
    with nothing. The files' own times do not tell: each open touches them."""
    marks = [store.last_complete()]
    (stored,) = store.get_many([PROGRESS_KEY])
    if stored is not None:
        marks.append(progress.loads(stored).wall)
    return now - max(mark or 0 for mark in marks)


def _named(at: tuple[str, int]) -> str:
    return f"{at[0]}/{at[1]}"
