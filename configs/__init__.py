"""One experiment per file: `get_config(recipe)` returns its settings."""
