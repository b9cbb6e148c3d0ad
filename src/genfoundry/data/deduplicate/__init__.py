"""Stage deduplicate: of each group of near-duplicates, one record stays."""
