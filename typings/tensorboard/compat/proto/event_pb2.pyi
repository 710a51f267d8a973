from tensorboard.compat.proto.summary_pb2 import Summary

class SessionLog:
    START: int
    def __init__(self, *, status: int) -> None: ...

class Event:
    wall_time: float
    def __init__(
        self,
        *,
        file_version: str = ...,
        session_log: SessionLog = ...,
        summary: Summary = ...,
        step: int = ...,
    ) -> None: ...
    def SerializeToString(self) -> bytes: ...
