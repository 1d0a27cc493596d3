"""Why a record is rejected: the values of the label `reason`, and of the header of dead letters."""

REJECT_REASONS = (
    "too_large",
    "null_value",
    "not_json",
    "bad_type",
    "no_user",
    "bad_user",
    "key_mismatch",
    "bad_time",
    "time_ahead",
    "bad_price",
    "bad_quantity",
    "currency",
    "wrong_partition",
    "bad_command",
)
