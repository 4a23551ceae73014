"""What tests of real servers share."""

from __future__ import annotations

import pytest

from tests.support.sftp import Gateway


@pytest.fixture
def gateway(template):
    """A core and an sftp door of this test's own, with the demo accounts."""
    with Gateway(template) as running:
        yield running
