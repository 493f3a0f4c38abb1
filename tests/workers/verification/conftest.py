import sys
from pathlib import Path

# `real_objects` and `made_votes` are shared by this folder's tests, which pytest imports without a
# package.
sys.path.insert(0, str(Path(__file__).parent))
