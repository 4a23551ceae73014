"""What tests of real servers share."""

from __future__ import annotations

import pytest

from tests.support.sftp import Gateway


@pytest.fixture
def gateway(template):
    """A core and an sftp door of this test's own, with the demo accounts."""
    with Gateway(template) as running:
        yield running


@pytest.fixture(scope="session")
def shared_gateway(template):
    """One for tests that mind neither other documents nor other connections: starting one takes seconds."""
    with Gateway(template) as running:
        yield running
