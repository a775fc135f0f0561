"""The built-in kinds: names, defaults, validation and printed columns, as data first."""
