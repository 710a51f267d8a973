"""Whole trainings, each written with fengine, with Lightning and with pytorch-ignite.

The three of a training have the same model, data and features. `python -m tests.trainings` runs all
of them, and prints how long they are and what they reach.
"""
