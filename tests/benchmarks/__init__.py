"""What fengine costs beside a loop by hand and other frameworks: `python -m tests.benchmarks`.

With `--before`, what it costs beside another version of itself.

It is run by hand. The tests only see to it that it runs and shows what it should; none of them
asserts on a time.
"""
