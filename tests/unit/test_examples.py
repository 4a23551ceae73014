"""The usage examples on the packages' pages are true: what they show is what happens."""

from __future__ import annotations

import doctest
import importlib

import pytest

from tests.unit.vault.test_certificate_sample import VKEY, issue, make_body
from vault.certificate.model import certificate_to_json

PACKAGES = [
    "retention_rules",
    "vault",
    "vault.catalogue",
    "vault.certificate",
    "vault.crypto",
    "vault.keys",
    "vault.ledger",
    "vault.storage",
]


@pytest.mark.parametrize("package", PACKAGES)
def test_the_example_of_a_package_gives_what_it_says(package, tmp_path):
    around = {
        "folder": tmp_path,
        "certificate": certificate_to_json(issue(make_body())),
        "vkey": VKEY,
    }
    result = doctest.testmod(importlib.import_module(package), extraglobs=around)
    assert result.attempted > 0
    assert result.failed == 0
