"""Opening the store of a partition on the local disk: it is used, refused, set aside, or deleted and rebuilt."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from rocksdict import Cache

from state.stores.database import BrokenStore
from state.stores.folder import remove, set_aside
from state.stores.rocksdb import ForeignStore, LostChangelog, Meta, RowStore
from streams.config.factories import forget_units
from streams.config.settings import Settings
from streams.errors import StateError
from streams.processing import progress
from streams.processing.progress import PROGRESS_KEY
from streams.runtime.data_loss import print_notice, refuse_loss
from streams.runtime.log_bounds import LogBounds

# A store can be broken, then of a lost changelog, then stale. Each cause occurs once: a new store has none of them.
MAX_ATTEMPTS = 4


def open_store(
    settings: Settings,
    number: int,
    bounds: LogBounds,
    *,
    cache_rows: int,
    block_cache: Cache,
    accept_loss: bool,
    now: int,
) -> RowStore:
    """The store of a partition, ready to be recovered from the changelog. now: wall clock, ms.

    StateError where the folder belongs to another deployment or cannot be used. LossError where the changelog lacks
    records that the rows include, or records that the rows need.
    """
    path = Path(settings.state.datadir) / str(number)
    meta = Meta(
        f"{settings.prefix}{settings.application}",
        number,
        settings.topics.partitions,
        changelog=bounds.topic_ids[settings.changelog],
    )
    rebuild = f"rebuilds partition {number} from what the changelog holds"
    for _ in range(MAX_ATTEMPTS):
        store: RowStore | None = None
        try:
            store = RowStore(
                path, meta, cache_rows=cache_rows, block_cache=block_cache, forget_units=forget_units(settings)
            )
            changelog = settings.changelog, number
            if _matches_changelog(store, changelog, bounds, accept_loss=accept_loss, rebuild=rebuild, now=now):
                return store
            _close(store)
            remove(path)
        except BrokenStore as error:
            _close(store)
            new_path = set_aside(path)
            print_notice(f"{error}: set aside as {new_path}, partition {number} is rebuilt from the changelog")
        except LostChangelog as error:
            refuse_loss(accept_loss, str(error), rebuild)
            remove(path)
        except (ForeignStore, OSError) as error:
            raise StateError(str(error)) from error
    raise StateError(f"{path} can be neither opened nor created")


def _matches_changelog(
    store: RowStore, changelog: tuple[str, int], bounds: LogBounds, *, accept_loss: bool, rebuild: str, now: int
) -> bool:
    """Whether the rows can be brought up to date from the changelog; False where the store is to be rebuilt.

    changelog: topic and partition. rebuild: the consequence that a message names.
    """
    name, offset = f"{changelog[0]}/{changelog[1]}", store.offset()
    start, end = bounds.starts[changelog], bounds.ends[changelog]
    if offset is not None and offset > end:
        refuse_loss(accept_loss, f"{name} ends at {end}, {store.path} is at {offset}", rebuild)
        return False
    if offset is not None and _age(store, now) > bounds.tombstone_retention / 2:
        # The tombstone of a user who was erased meanwhile may have been compacted away: the row would stay.
        print_notice(
            f"{store.path} was last up to date more than half of {changelog[0]}'s delete.retention.ms ago: rebuilt"
        )
        return False
    if (offset or 0) < start:
        loss = f"{name} starts at {start}, {store.path} is at {offset or 0}: rows are gone"
        refuse_loss(accept_loss, loss, "goes on with the rows that there are")
        store.apply([], [], start)
    if offset is None:  # An empty store lacks nothing yet. From now on its age counts.
        store.note_complete(now)
    return True


def _close(store: RowStore | None) -> None:
    """Ignores write errors, because the folder is deleted or set aside afterwards."""
    if store is not None:
        with suppress(BrokenStore, OSError):
            store.close()


def _age(store: RowStore, now: int) -> int:
    """ms since the rows were last known to be up to date with the changelog.

    For a recovery that did not complete: ms since it started with an empty store. The files' modification times are
    of no use, because each open changes them.
    """
    times = [store.last_complete()]
    (stored,) = store.get_many([PROGRESS_KEY])
    if stored is not None:
        times.append(progress.loads(stored).wall)
    return now - max(time or 0 for time in times)
