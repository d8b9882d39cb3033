"""Public test suites that are not ours and not in this repository: where they lie.

``MTA_VECTORS`` names a directory with ``spf/rfc7208-tests.yml`` and ``arc/*.yml`` (both from the project openspf-test-
suite/ValiMail, kept by the authors of the RFCs, also in the source distributions of pyspf and dkimpy on PyPI) and
``address/isemail-tests.xml`` (Dominic Sayers' is_email). Without it ``../shared/vectors`` beside the checkout is taken.
Where they are missing the tests that read them are skipped; with ``MTA_REQUIRE_PEERS`` set (``.ci/run``) they fail.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.live.peers.process import unavailable

ROOT = Path(os.environ.get("MTA_VECTORS") or Path(__file__).parents[2] / "shared" / "vectors")


def vectors(name: str) -> Path:
    """Return the path of one file of the suites, ``spf/rfc7208-tests.yml``."""
    path = ROOT / name
    if not path.exists():
        unavailable(f"{path} (see tests/vectors.py)")
    return path
