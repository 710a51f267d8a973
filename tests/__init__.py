"""The tests: laws in one place, the rest in the shape of `src/fengine`."""
