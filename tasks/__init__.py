"""Tasks: one file each, a frozen dataclass with `name` and `load(seed) -> Dataset`."""
