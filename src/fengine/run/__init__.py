"""The machine of the loop: `docs/inside.md` gives its theory of operation.

- `box`: the run as it is now, as registers that are written in place.
- `script`: what comes next; the one loop.
- `obeying`: where requests and recoveries lead.
- `driver`: pulls the script, and fires what it names.
- `source`: where batches come from; `place` is where a run stands in its data.
"""
