# fsspec ships no types; here is only what this project uses of it, as it uses it.

from fsspec import core as core
