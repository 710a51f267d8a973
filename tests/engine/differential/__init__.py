"""Generated programs for an Engine, played on pytorch-ignite 0.5.5 and on fengine.

A `program` is data (`batches`), runs, and `deeds` at any firing of any event. The `player` plays it
on one of the `sides`, and writes down what user code has `seen`; `comparing` asserts that this is
equal. The side to compare with is the living pytorch-ignite, with its defects `mended`, and for the
other semantics made to stop as `documented`. `rows` names every difference that is known, and
`strategies` look for others. Nothing of fengine is read here but what users reach.
"""
