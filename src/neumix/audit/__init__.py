"""Checks of everything behind a number: records, hashes, derived values; nothing here loads torch."""
