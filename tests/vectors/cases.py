"""Where the cases lie that are not part of this repository: small inputs that failed once, with the right outcome."""

import os
from pathlib import Path

CASES = Path(
    os.environ.get("STRONGROOM_CASES", Path(__file__).resolve().parents[3] / "shared" / "cases")
)
