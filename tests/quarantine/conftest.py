import sys
from pathlib import Path

# `scripted_chain` and `quarantine_script` are shared by this folder's tests, which pytest imports
# without a package.
sys.path.insert(0, str(Path(__file__).parent))
