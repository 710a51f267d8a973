"""The names that modules had in version 0.1, for what was pickled then; nothing else uses them.

To import one of them imports this module first, which says where it is now.
"""

from __future__ import annotations

import sys
from typing import Final

from fengine import loop, recorder
from fengine.core import stateful
from fengine.keep import snapshot
from fengine.look import blame, differences, plan
from fengine.run import source

_NOW: Final = {
    "blame": blame,
    "differences": differences,
    "external": stateful,
    "loop": loop,
    "plan": plan,
    "recorder": recorder,
    "snapshots": snapshot,
    "source": source,
}

for _name, _module in _NOW.items():
    sys.modules[f"{__name__}.{_name}"] = _module
