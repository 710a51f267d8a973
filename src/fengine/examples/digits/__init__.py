"""Train a classifier of handwritten digits: `python -m fengine.examples.digits`.

`task` says what is trained on what; `functional` trains it with the functional API, `mutable` with
the Engine API, to bitwise the same weights; `report` is what is printed and saved on the way;
`__main__` is the command line.
"""
