"""Many trainings as one value, and the steps that train and evaluate all of them at once.

The tensors of the members are stacked: what a member has of shape (n, m), the ensemble has of shape
(K, n, m). `vmap` goes forward with all of them in the calls that one would take. The members share
the batches, and nothing else.
"""
