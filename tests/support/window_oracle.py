"""The windowed columns by SQL over the raw events of a file: DuckDB reads the file itself, nothing of shoal's."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
from kafka.partitioner.default import murmur2

FIELDS = ("event_time", "event_type", "user_id", "event_id", "session_id", "transaction_id", "price", "quantity")
TYPES = {
    "page_views": "page_view",
    "product_views": "view",
    "searches": "search",
    "carts": "add_to_cart",
    "cart_removals": "remove_from_cart",
    "checkouts": "checkout",
}
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
WINDOWS = {"1h": (5 * MINUTE, HOUR), "24h": (HOUR, DAY), "7d": (HOUR, 7 * DAY), "30d": (DAY, 30 * DAY)}


def load(path: Path, partitions: int) -> duckdb.DuckDBPyConnection:
    """A database with the raw events, numbered by line, and the partition of each user."""
    con = duckdb.connect()
    con.execute("set timezone = 'UTC'")
    if ".csv" in path.name:
        read = f"read_csv('{path}', header = true, all_varchar = true, nullstr = '')"
    else:
        columns = ", ".join(f"'{field}': 'VARCHAR'" for field in FIELDS)
        read = f"read_json('{path}', format = 'newline_delimited', columns = {{{columns}}})"
    con.execute(f"create table given as select row_number() over () as line, * from {read}")
    there = {row[0] for row in con.execute("describe given").fetchall()}
    have = ", ".join(field if field in there else f"null::varchar as {field}" for field in FIELDS)
    con.execute(f"""
        create table raw as
        select line, event_type as type, user_id as user, event_id, session_id as session, transaction_id as txn,
               case when regexp_full_match(event_time, '[0-9]+') then event_time::bigint
                    else epoch_ms(event_time::timestamptz) end as t,
               coalesce(round_even(price::double * 100, 0), 0)::bigint as cents,
               coalesce(quantity::bigint, 1) as quantity,
               event_type in ('purchase', 'refund') as bought
        from (select line, {have} from given)""")
    users = [row[0] for row in con.execute("select distinct user from raw").fetchall()]
    parts = [(murmur2(user.encode()) & 0x7FFFFFFF) % partitions for user in users]
    table = pa.table({"user": users, "part": parts})
    con.register("given_parts", table)
    con.execute("create table parts as select * from given_parts")
    return con


def expected(con: duckdb.DuckDBPyConnection, now: int, until: int | None = None) -> None:
    """Fill table `expected`: a line a user, all windowed columns as of now (ms), from the events up to `until`."""
    measures = []
    for window, (pane, length) in WINDOWS.items():
        low = now // pane * pane - length
        inside = f"filter (where t >= {low})"
        for name, kind in TYPES.items():
            measures.append(f"count(*) {inside[:-1]} and type = '{kind}') as {name}_{window}")
        measures += [
            f"coalesce(sum(new_order) {inside}, 0)::bigint as orders_{window}",
            f"coalesce(sum(case when buys then quantity else 0 end) {inside}, 0)::bigint as items_{window}",
            f"(coalesce(sum(spend) {inside}, 0)::decimal(18,0) / 100)::decimal(18,2) as spend_{window}",
            f"coalesce(sum(new_session) {inside}, 0)::bigint as sessions_{window}",
        ]
    limit = "" if until is None else f"where t <= {until}"
    con.execute(f"""
        create or replace table expected as
        with merged as (
            select *, max(t) over (partition by part, bought order by line rows unbounded preceding) as key
            from raw join parts using (user) {limit}),
        applied as (
            select *, row_number() over (partition by part order by key, bought, line) as pos from merged),
        fresh as (
            select * from applied
            qualify event_id is null or row_number() over (partition by user, event_id order by pos) = 1),
        judged as (
            select *, type = 'purchase' and quantity >= 0 as buys,
                   case when type = 'purchase' then cents * quantity
                        when type = 'refund' then -abs(cents * quantity) else 0 end as spend,
                   coalesce('t' || txn, 's' || session) as named,
                   max(t) over (partition by user order by pos
                                rows between unbounded preceding and 1 preceding) as before
            from fresh),
        counted as (
            select *,
                   case when session is not null
                        then (row_number() over (partition by user, session order by pos) = 1)::int
                        else (before is null or t - before > {30 * MINUTE})::int end as new_session,
                   case when not buys then 0 when named is null then 1
                        else (row_number() over (partition by user, buys, named order by pos) = 1)::int end as new_order
            from judged)
        select user as user_id, {", ".join(measures)} from counted group by user""")


def differences(con: duckdb.DuckDBPyConnection, actual: Path) -> dict[str, int]:
    """Cells that differ between `expected` and a parquet file, by column; users on one side alone under `users`."""
    columns = [row[0] for row in con.execute("describe expected").fetchall() if row[0] != "user_id"]
    wrong = ", ".join(f"sum((e.{c} is distinct from a.{c})::int)::bigint as {c}" for c in columns)
    got = con.execute(f"""
        select sum((e.user_id is null or a.user_id is null)::int)::bigint as users, {wrong}
        from expected e full join '{actual}' a using (user_id)""").fetchone()
    assert got is not None
    return {name: count for name, count in zip(["users", *columns], got, strict=True) if count}


def span(con: duckdb.DuckDBPyConnection) -> tuple[int, int, int, int]:
    """Events, users, first and last time (ms)."""
    got = con.execute("select count(*), count(distinct user), min(t), max(t) from raw").fetchone()
    assert got is not None
    return got
