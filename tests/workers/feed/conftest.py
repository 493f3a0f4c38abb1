import sys
from pathlib import Path

# `served_node` is shared by this folder's tests, and `bakery` with those of the sandbox; pytest
# imports them without a package.
for folder in (Path(__file__).parent, Path(__file__).parents[1] / "sandbox"):
    sys.path.insert(0, str(folder))
