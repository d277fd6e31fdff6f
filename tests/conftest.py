"""What all tests share: no Prefect server starts unasked, and none of the user's is reached."""

from __future__ import annotations

import os

os.environ["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] = "false"
os.environ["DO_NOT_TRACK"] = "1"
os.environ.pop("PREFECT_API_URL", None)
