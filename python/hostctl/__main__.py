"""The entry of `python3 -ISB hostctl.pyz` and of the unpacked package."""

from __future__ import annotations

import sys

from hostctl.cli import main

sys.exit(main(sys.argv[1:]))
