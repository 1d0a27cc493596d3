"""The batch core on whole columns, as it was before the compiled one: the oracle of the differential tests."""
