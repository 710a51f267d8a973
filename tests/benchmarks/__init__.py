"""What fengine costs beside a loop by hand and other frameworks: `python -m tests.benchmarks`.

It is run by hand. The tests only see to it that it runs and shows what it should; none of them
asserts on a time.
"""
