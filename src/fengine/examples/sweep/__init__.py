"""Train many classifiers of handwritten digits at once: `python -m fengine.examples.sweep`.

`sweeping` trains one for each learning rate and seed, in one run; `population` has the worst of
them copy the best on the way; `picture` draws what came of both; `__main__` is the command line.
The data and the network are those of `fengine.examples.digits`.
"""
