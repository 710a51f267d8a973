from collections.abc import Mapping

from tensorboard.compat.proto.summary_pb2 import Summary

def hparams_pb(hparams: Mapping[str, object], trial_id: str | None = None) -> Summary: ...
