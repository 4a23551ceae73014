"""The systemd units: as closed as they claim, and in step with the program they start."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
import typer

from gateway.cli.app import app
from gateway.core.main import ROLES
from vault.keys.root import CREDENTIAL

UNITS = Path(__file__).resolve().parents[2] / "systemd"
SERVICES = sorted(UNITS.glob("*.service"))
SOCKETS = sorted(UNITS.glob("*.socket"))
MOST_EXPOSED = {"strongroom-core": 1.0}  # the others: 2.0


def settings(path):
    """Setting → its values in order, as systemd reads them (sections do not matter here)."""
    found = defaultdict(list)
    for line in path.read_text("utf-8").splitlines():
        if line and not line.startswith(("#", "[")):
            key, _, value = line.partition("=")
            found[key].append(value)
    return found


def names(paths):
    return [path.name for path in paths]


def exposure(unit):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    ran = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    match = re.search(r"Overall exposure level for \S+: ([0-9.]+)", ran.stdout)
    if match is None:
        pytest.skip(f"this systemd-analyze can't judge a unit offline: {ran.stderr.strip()[:200]}")
    return float(match[1])


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.stem)
def test_a_unit_is_as_closed_as_it_claims(unit):
    assert exposure(unit) <= MOST_EXPOSED.get(unit.stem, 2.0)


@pytest.mark.parametrize("door", ["strongroom-sftp", "strongroom-smtp"])
def test_a_door_on_a_low_port_stays_closed_otherwise(door, tmp_path):
    unit = tmp_path / f"{door}.service"
    text = (UNITS / unit.name).read_text("utf-8")
    unit.write_text(text + "\n" + (UNITS / "low-port.conf").read_text("utf-8"), "utf-8")
    assert exposure(unit) <= 2.0


@pytest.mark.parametrize(
    "unit", [*SERVICES, *SOCKETS, UNITS / "strongroom.target"], ids=lambda unit: unit.name
)
def test_systemd_knows_every_setting(unit, tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    for other in UNITS.glob("strongroom*"):
        shutil.copy(other, tmp_path)
    ran = subprocess.run(
        [analyze, "verify", "--man=no", str(tmp_path / unit.name)],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in ran.stderr.splitlines() if str(tmp_path) in line]
    assert said == [], said


def test_there_is_one_unit_for_each_role_of_the_program():
    roles = {"core", "sftp", "smtp", "inspect", "courier", "resolver", "mailbox"}
    assert {path.stem for path in SERVICES} == {f"strongroom-{role}" for role in roles}
    commands = set(typer.main.get_command(app).list_commands(None))
    for unit in SERVICES:
        (start,) = settings(unit)["ExecStart"]
        program, command, *rest = start.split()
        assert program == "/opt/strongroom/venv/bin/strongroom"
        assert command in commands
        assert unit.stem == f"strongroom-{command}"
        assert rest == ["-c", "/etc/strongroom/config.toml"]


def test_every_unit_has_a_user_of_its_own_which_sysusers_makes():
    users = [settings(unit)["User"] for unit in SERVICES]
    assert all(len(user) == 1 for user in users)
    flat = [user for (user,) in users]
    assert len(set(flat)) == len(SERVICES)
    made = re.findall(r"^u (\S+)", (UNITS / "sysusers.conf").read_text("utf-8"), re.MULTILINE)
    assert sorted(made) == sorted(flat)
    for unit in SERVICES:
        assert settings(unit)["Group"] == settings(unit)["User"]


def test_each_socket_of_the_core_is_named_as_the_core_expects_and_open_to_one_group():
    lines = (UNITS / "sysusers.conf").read_text("utf-8")
    groups = set(re.findall(r"^[ug] (\S+)", lines, re.MULTILINE))
    found = {}
    for unit in SOCKETS:
        values = settings(unit)
        (name,) = values["FileDescriptorName"]
        assert unit.name == f"strongroom-core-{name}.socket"
        assert values["ListenStream"] == [f"/run/strongroom/{name}.sock"]
        assert values["Service"] == ["strongroom-core.service"]
        assert values["SocketMode"] == ["0660"]
        assert values["SocketUser"] == ["strongroom-core"]
        assert values["SocketGroup"] == [f"strongroom-{name}"]
        assert values["RemoveOnStop"] == ["yes"]
        assert values["SocketGroup"][0] in groups
        found[name] = unit
    assert set(found) == set(ROLES)
    core = settings(UNITS / "strongroom-core.service")
    assert set(" ".join(core["Requires"]).split()) == set(names(SOCKETS))


def test_only_the_core_gets_the_root_key_and_the_store():
    for unit in SERVICES:
        values = settings(unit)
        is_core = unit.stem == "strongroom-core"
        keys = [line for line in values["LoadCredential"] if CREDENTIAL in line]
        assert keys == ([f"{CREDENTIAL}:/etc/strongroom/root.key"] if is_core else [])
        assert bool(values["StateDirectory"]) == is_core
        assert ("-/var/lib/strongroom" in values["InaccessiblePaths"]) != is_core
        assert values["ReadWritePaths"] == []


def test_who_needs_no_network_has_none():
    for unit in SERVICES:
        values = settings(unit)
        outside = unit.stem.removeprefix("strongroom-") in {"sftp", "smtp", "resolver", "mailbox"}
        assert values["PrivateNetwork"] == ([] if outside else ["yes"])
        families = "AF_UNIX AF_INET AF_INET6" if outside else "AF_UNIX"
        assert values["RestrictAddressFamilies"] == [families]


def test_a_wrong_configuration_does_not_restart_for_ever():
    for unit in SERVICES:
        values = settings(unit)
        assert values["Restart"] == ["on-failure"]
        assert values["RestartPreventExitStatus"] == ["2"]
        assert values["LimitCORE"] == ["0"]
        assert values["Type"] == ["notify"]


@pytest.mark.parametrize("role", ["inspect", "sftp", "smtp"])
def test_a_role_whose_processes_fence_themselves_in_may_do_so(role):
    """The jail of `gateway.process.sandbox` fails, and the process with it, where capset is denied."""
    filters = settings(UNITS / f"strongroom-{role}.service")["SystemCallFilter"]
    assert filters[1] == "~@privileged @resources"
    allowed = set(filters[2].split())
    assert allowed == {
        "capset",
        "landlock_create_ruleset",
        "landlock_add_rule",
        "landlock_restrict_self",
    }


def test_the_inspectors_stand_back_without_being_starved():
    found = settings(UNITS / "strongroom-inspect.service")
    assert found["Nice"] == ["19"]
    assert found["CPUSchedulingPolicy"] == ["batch"]  # idle would leave nothing on a busy machine
    assert found["IOSchedulingClass"] == ["best-effort"]
    assert int(found["CPUWeight"][0]) < 100  # what every other service has
    assert int(found["IOWeight"][0]) < 100
