"""RecBole's habit: ``python run_recbole_diffusion.py --model=DiffRec --dataset=ml-100k --key=value``."""

import sys

from recbole_diffusion.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
