"""Train a sharded transformer on several processes: `python -m fengine.examples.distributed`.

`training` is the program that each process runs, and what one would write; `text` has the data and
the model. `__main__` is the command line: it starts torchrun, which runs that program, and one of
its processes kills itself on the way.
"""
