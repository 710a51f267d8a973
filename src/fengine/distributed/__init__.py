"""Many processes: one loop on every rank, started by torchrun.

The distributed engine is PyTorch's. Here is what makes the loop one: the ranks agree on what is
asked for, learn of each other's failures, share data and sum up numbers.
"""

from fengine.distributed.effects import OnRank as OnRank
from fengine.distributed.effects import Summed as Summed
from fengine.distributed.effects import on_rank as on_rank
from fengine.distributed.effects import summed as summed
from fengine.distributed.even_data import REFUSE as REFUSE
from fengine.distributed.even_data import SHORTEST as SHORTEST
from fengine.distributed.even_data import Uneven as Uneven
from fengine.distributed.even_data import even as even
from fengine.distributed.launched import ranks_of_torchrun as ranks_of_torchrun
from fengine.distributed.torch_ranks import TorchRanks as TorchRanks
from fengine.run.ranks import EVERY_ITERATION as EVERY_ITERATION
from fengine.run.ranks import WHEN_ASKED as WHEN_ASKED
from fengine.run.ranks import AgreeEvery as AgreeEvery
from fengine.run.ranks import Alone as Alone
from fengine.run.ranks import PeerFailed as PeerFailed
from fengine.run.ranks import Ranks as Ranks
from fengine.run.ranks import RanksDiverged as RanksDiverged
from fengine.run.ranks import WhenAsked as WhenAsked
from fengine.run.ranks import over_ranks as over_ranks

__all__ = [
    "EVERY_ITERATION",
    "REFUSE",
    "SHORTEST",
    "WHEN_ASKED",
    "AgreeEvery",
    "Alone",
    "OnRank",
    "PeerFailed",
    "Ranks",
    "RanksDiverged",
    "Summed",
    "TorchRanks",
    "Uneven",
    "WhenAsked",
    "even",
    "on_rank",
    "over_ranks",
    "ranks_of_torchrun",
    "summed",
]
