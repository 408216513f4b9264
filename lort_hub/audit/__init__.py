"""Look at data before training on them: counts, copies, near-duplicates, suspicious labels, broken images."""
