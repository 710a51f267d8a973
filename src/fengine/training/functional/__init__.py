"""A training as one value: what it consists of, how a model is lent it, and the steps that do so.

The state holds parameters, buffers, the optimizer's state and the random state. A step lends copies
of what can change to one model and one optimizer, trains them in place, and takes them back as the
next value. So any model and optimizer can be used, and no value ever changes.
"""
