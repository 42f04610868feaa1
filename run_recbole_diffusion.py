"""RecBole's habit: ``python run_recbole_diffusion.py --model=DiffRec --dataset=ml-100k --key=value``.

``python run_recbole_diffusion.py doctor``, and the other commands, work too.
"""

import sys

from recbole_diffusion.cli import main

if __name__ == "__main__":
    words = sys.argv[1:]
    sys.exit(main(words if words and not words[0].startswith("-") else ["run", *words]))
