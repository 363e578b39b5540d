"""Makes every other file of this folder; see ../train.py."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from train import make

make(1)
