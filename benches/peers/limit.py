"""The limit: no server, but loaded and checked like one. Connections make no difference to it."""

import json
import subprocess
from dataclasses import dataclass

from places import MODELS
from protocols import SCORE, check
from server import Failed, Load, NotStarted, Setting, Window, last_line


@dataclass
class Limit:
    """The running program `limit`, which is talked to over its pipes."""

    setting: Setting
    process: subprocess.Popen[str]

    def read(self) -> str:
        """The next line that it prints; nothing when it has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def check(self) -> None:
        """Compares its answer, which it prints first, with ONNX Runtime's own."""
        answer = self.read()
        if not answer:
            raise NotStarted(f"ended with {self.process.wait()}: {last_line(self.setting.log)}")
        check(SCORE, answer, MODELS / self.setting.model / "expected.json")

    def window(self, load: Load) -> Window:
        """Lets it run."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{load.seconds}\n")
        self.process.stdin.flush()
        seen = self.read()
        if not seen:
            raise Failed(f"ended with {self.process.wait()}: {last_line(self.setting.log)}")
        return Window(**json.loads(seen))
