"""Run the command line: ``python -m recbole_diffusion``."""

import sys

from recbole_diffusion.cli import main

sys.exit(main())
