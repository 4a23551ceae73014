"""A program that has no algorithm in common with the door is named, with what it offered."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.sftp import Gateway, until


@pytest.fixture(scope="module")
def gateway(template):
    with Gateway(template) as running:
        yield running


def strongroom(gateway: Gateway, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", *arguments, "-c", str(gateway.config)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("option", "lacking", "offered"),
    [
        ("KexAlgorithms=ecdh-sha2-nistp256", "key exchange", "ecdh-sha2-nistp256"),
        ("Ciphers=aes128-cbc", "cipher", "aes128-cbc"),
        ("HostKeyAlgorithms=ssh-rsa", "host key", "ssh-rsa"),
    ],
)
def test_log_status_and_doctor_name_who_can_not_connect_and_what_it_offered(
    gateway, option, lacking, offered
):
    before = {each["last_at"] for each in gateway.admin.call("status")["mismatches"]}
    done = subprocess.run(
        ["ssh", *gateway.options("acme"), "-o", option, "-p", str(gateway.port), "acme@127.0.0.1"],
        capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 255

    def seen():
        return [
            each
            for each in gateway.admin.call("status")["mismatches"]
            if each["last_at"] not in before and each["lacking"] == lacking
        ]

    until(seen)
    (found,) = seen()
    assert found["source"] == "127.0.0.1"
    assert "OpenSSH" in found["program"]
    assert offered in found["offered"].split(",")
    assert f"no common {lacking}" in strongroom(gateway, "status").stdout
    findings = json.loads(strongroom(gateway, "doctor", "--json").stdout)
    assert any(lacking in each["what"] and offered in each["what"] for each in findings)
