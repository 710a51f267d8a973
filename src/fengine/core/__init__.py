"""The pure core: values and functions of values; see each file's first lines."""
