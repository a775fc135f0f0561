"""The truth: versioned objects in SQLite, their history, and the watches on them."""
