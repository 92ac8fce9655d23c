"""`python -m homeport.sandbox NAME`: the supervisor that `deploy sandbox up` starts."""

from __future__ import annotations

import sys

from homeport.sandbox import get
from homeport.sandbox.supervisor import Supervisor


def main() -> None:
    """Supervise the sandbox named on the command line until it ends."""
    sandbox = get(sys.argv[1])
    if sandbox is None:
        sys.exit(f"there is no sandbox {sys.argv[1]}")
    Supervisor(sandbox).run()


if __name__ == "__main__":
    main()
