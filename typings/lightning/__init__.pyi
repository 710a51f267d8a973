# Lightning is not among the development tools; here is only what the benchmark uses of it.
