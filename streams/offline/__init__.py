"""Files instead of topics: backfill, replay, feature tables, the demo."""
