"""Programs in which the type checker must find nothing."""
