"""All set-ups: imported, they are in the list. Behind `install()`, where that is wanted."""

from tests.engine.unmodified.setups import averaging as averaging
from tests.engine.unmodified.setups import checkpoints as checkpoints
from tests.engine.unmodified.setups import contrib as contrib
from tests.engine.unmodified.setups import factories as factories
from tests.engine.unmodified.setups import loggers as loggers
from tests.engine.unmodified.setups import metrics as metrics
from tests.engine.unmodified.setups import profilers as profilers
from tests.engine.unmodified.setups import progress as progress
from tests.engine.unmodified.setups import schedulers as schedulers
from tests.engine.unmodified.setups import services as services
from tests.engine.unmodified.setups import stopping as stopping
