"""Rules that many kinds share: names, values, selectors, metadata."""
