"""What the documented package exports from its module `events`, by the same names."""

from fengine.engine.enums import CallableEventWithFilter as CallableEventWithFilter
from fengine.engine.enums import EventEnum as EventEnum
from fengine.engine.enums import Events as Events
from fengine.engine.enums import EventsList as EventsList
from fengine.engine.handles import RemovableEventHandle as RemovableEventHandle
from fengine.engine.state import State as State
from fengine.engine.utils import _check_signature as _check_signature
