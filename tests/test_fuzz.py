"""What fuzzing found worth keeping, and what it begins with: each input is checked thoroughly once more."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="the extra 'batch' is not installed")
FUZZ = Path(__file__).parent / "fuzz"
sys.path.insert(0, str(FUZZ))

from targets import TARGETS  # noqa: E402


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_read_is_right_or_refused_without_text(name: str) -> None:
    kept = [path.read_bytes() for path in sorted((FUZZ / "corpus" / name).glob("*"))]
    for data in [b"", *TARGETS[name].seeds(), *kept]:
        TARGETS[name].check(data, True)
