"""A shopper's row, and what happens to it.

`vocabulary` is the table of event types and measures, `layout` what a stored row looks like; `rows` and `migrations`
read and write it. `fold` applies events to rows; `windows` sums over time, `recent_ids` tells repeats, `affinity`
decays. `features` makes the numbers that models learn from, `expiry_index` says when a row is due without an event. All
of these are functions of arrays; only `stores` knows disks.
"""
