from pathlib import Path

class CSVLogger:
    def __init__(self, save_dir: Path, *, version: int) -> None: ...
