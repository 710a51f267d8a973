"""What stands in the place of a batch or an output that is not there."""

from __future__ import annotations

from enum import Enum
from typing import Final, final


@final
class Missing(Enum):
    """Stand for a batch or an output that is not there."""

    MISSING = "none yet"


MISSING: Final = Missing.MISSING
