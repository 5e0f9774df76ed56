"""A command: it reads its arguments, says hello, and ends."""

import sys

from wit_world import exports


class Run(exports.Run):
    def run(self) -> None:
        name = sys.argv[1] if len(sys.argv) > 1 else "world"
        print(f"hello {name} from Python")
