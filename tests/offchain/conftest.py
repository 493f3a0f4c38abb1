import sys
from pathlib import Path

# `processor_script` is shared by this folder's tests, which pytest imports without a package.
sys.path.insert(0, str(Path(__file__).parent))
