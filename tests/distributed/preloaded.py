"""All that the programs of ranks import, once for all of them."""

import importlib

# The first step of an optimizer imports `torch._dynamo`.
for name in (
    "torch._dynamo",
    "torch.distributed.fsdp",
    "torch.nn.parallel",
    "fengine.checkpoints",
    "fengine.distributed",
    "fengine.engine",
    "fengine.features",
    "fengine.metrics",
):
    importlib.import_module(name)
