"""Hostile code inside the jail can't read, write, connect, start or spend what it was not given."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.process import sandbox, seccomp

SCRIPT = Path(__file__).with_name("jail_attempt.py")
FENCES = sandbox.probe_sandbox()


def attempt(act, tmp_path):
    secret = tmp_path / "secret"
    if not secret.exists():
        secret.write_text("do not read")
        secret.chmod(0o600)
    finished = subprocess.run(
        [sys.executable, str(SCRIPT), act, str(secret)],
        capture_output=True,
        timeout=30,
        check=False,
        cwd=tmp_path,
    )
    return finished, secret


def outcome(act, tmp_path):
    finished, secret = attempt(act, tmp_path)
    assert finished.returncode == 0, finished.stderr.decode()[-2000:]
    return json.loads(finished.stdout), secret


needs_landlock = pytest.mark.skipif(not FENCES["landlock"], reason="this kernel has no landlock")
needs_seccomp = pytest.mark.skipif(
    not FENCES["seccomp"], reason="this kernel has no seccomp filter"
)


@needs_landlock
@pytest.mark.parametrize(
    "act",
    [
        "read passwd",
        "read secret",
        "list home",
        "list vault",
        "read environment",
        "create file",
        "write file",
        "truncate file",
        "remove file",
        "rename file",
        "link file",
    ],
)
def test_files_outside_the_libraries_can_neither_be_read_nor_changed(act, tmp_path):
    result, secret = outcome(act, tmp_path)
    assert result["did"] is False
    assert result["error"] == "PermissionError"
    assert secret.read_text() == "do not read"
    assert not Path(str(secret) + ".new").exists()


@needs_seccomp
@pytest.mark.parametrize(
    "act",
    [
        "inet socket",
        "inet6 datagram",
        "netlink socket",
        "unix socket",
        "exec",
        "spawn",
        "fork bomb",
        "kill parent",
        "probe parent",
        "change mode",
        "change mode of held",
        "change times",
        "become root",
    ],
)
def test_sockets_processes_signals_and_attributes_are_refused(act, tmp_path):
    result, secret = outcome(act, tmp_path)
    assert result["did"] is False
    assert result["error"] == "PermissionError"
    assert secret.stat().st_mode & 0o777 == 0o600


def test_more_memory_than_the_limit_is_refused_and_less_is_given(tmp_path):
    result, _secret = outcome("allocate too much", tmp_path)
    assert (result["did"], result["error"]) == (False, "MemoryError")
    assert outcome("allocate a little", tmp_path)[0]["did"] is True


def test_a_held_descriptor_can_be_written_up_to_the_file_limit_and_no_further(tmp_path):
    result, secret = outcome("write held", tmp_path)
    assert result["did"] is True
    assert secret.read_text() == "xo not read"
    result, secret = outcome("write held too far", tmp_path)
    assert (result["did"], result["error"]) == (False, "OSError")
    assert secret.stat().st_size == len("do not read")


def test_a_limit_can_not_be_raised_again(tmp_path):
    result, _secret = outcome("raise limit", tmp_path)
    assert result["did"] is False


def test_libraries_can_be_read_and_threads_started_since_parsers_need_them(tmp_path):
    assert outcome("read library", tmp_path)[0]["did"] is True
    assert outcome("thread", tmp_path)[0]["value"] == "True"


def test_endless_computing_ends_at_the_processor_limit(tmp_path):
    finished, _secret = attempt("burn", tmp_path)
    assert finished.returncode in {-signal.SIGXCPU, -signal.SIGKILL}


def test_a_crash_leaves_no_core_file(tmp_path):
    finished, _secret = attempt("dump core", tmp_path)
    assert finished.returncode < 0
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_a_worker_whose_manager_is_gone_ends_at_once(tmp_path):
    pid = os.fork()
    if pid == 0:
        try:
            sandbox.enter_sandbox(sandbox.SandboxLimits(), parent=1_000_000_000)
        finally:
            os._exit(77)  # reached only if the jail let it live
    _pid, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 1


def test_probing_the_fences_restricts_nobody():
    before = Path("/proc/self/status").read_text().split("Seccomp:")[1].split()[0]
    assert set(sandbox.probe_sandbox()) >= {"landlock", "seccomp", "capabilities", "limits"}
    assert Path("/proc/self/status").read_text().split("Seccomp:")[1].split()[0] == before
    subprocess.run(["/bin/true"], check=True)


# ── the filter as a program, on machines this test does not run on ───────────────────────────────


def run_filter(program, arch, number, arguments=()):
    """A BPF interpreter for the few instructions the filter uses; returns its verdict."""
    data = struct.pack("<IIQ", number, arch, 0) + struct.pack(
        "<6Q", *(tuple(arguments) + (0,) * 6)[:6]
    )
    code = [struct.unpack_from("<HBBI", program, i) for i in range(0, len(program), 8)]
    at, accumulator = 0, 0
    while True:
        operation, if_true, if_false, value = code[at]
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif operation == 0x06:
            return value
        else:
            holds = {
                0x15: accumulator == value,
                0x35: accumulator >= value,
                0x45: accumulator & value != 0,
            }[operation]
            at += if_true if holds else if_false


ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM, ENOSYS = 0x00050001, 0x00050026


@pytest.mark.parametrize(
    ("machine", "read", "execve", "clone", "clone3", "tgkill", "prctl"),
    [("x86_64", 0, 59, 56, 435, 234, 157), ("aarch64", 63, 221, 220, 435, 131, 167)],
)
def test_the_filter_of_each_machine_decides_as_meant(
    machine, read, execve, clone, clone3, tgkill, prctl
):
    program = seccomp.seccomp_program(machine, 4711)
    arch = ARCH[machine]
    assert len(program) // 8 < 4096  # the kernel's limit, BPF_MAXINSNS
    assert run_filter(program, arch, read) == ALLOW
    assert run_filter(program, arch, execve) == EPERM
    assert run_filter(program, arch, clone3) == ENOSYS
    assert run_filter(program, arch, clone, (0x003D0F00,)) == ALLOW  # a thread
    assert run_filter(program, arch, clone, (17,)) == EPERM  # a process
    assert run_filter(program, arch, tgkill, (4711, 1, 6)) == ALLOW
    assert run_filter(program, arch, tgkill, (4712, 1, 6)) == EPERM
    assert run_filter(program, arch, prctl, (4, 1)) == EPERM  # PR_SET_DUMPABLE
    assert run_filter(program, arch, prctl, (1, 0)) == EPERM  # PR_SET_PDEATHSIG
    assert run_filter(program, arch, prctl, (15, 0)) == ALLOW  # PR_SET_NAME


def test_calls_by_another_machines_numbers_are_fatal_and_the_x32_ones_refused():
    program = seccomp.seccomp_program("x86_64", 1)
    assert run_filter(program, 0x40000003, 4) == KILL  # i386
    assert run_filter(program, ARCH["x86_64"], 0x40000000 + 59) == EPERM


def test_a_machine_without_a_filter_of_its_own_gets_none():
    assert seccomp.seccomp_program("riscv64", 1) is None


@pytest.mark.parametrize(
    ("machine", "sendto", "sendmsg", "sendmmsg"),
    [("x86_64", 44, 46, 307), ("aarch64", 206, 211, 269)],
)
def test_sending_may_not_connect(machine, sendto, sendmsg, sendmmsg):
    """Fast open connects without `connect`, also a listener that was shut down (sendto(2))."""
    program, fast_open = seccomp.seccomp_program(machine, 1), 0x20000000
    for number, before in ((sendto, (3, 0, 9)), (sendmsg, (3, 0)), (sendmmsg, (3, 0, 1))):
        assert run_filter(program, ARCH[machine], number, (*before, 0x4000)) == ALLOW
        assert run_filter(program, ARCH[machine], number, (*before, fast_open | 1)) == EPERM


@pytest.mark.parametrize(
    ("machine", "accept4", "bind"), [("x86_64", 288, 49), ("aarch64", 242, 200)]
)
def test_a_call_that_a_process_needs_is_left_in_and_no_other(machine, accept4, bind):
    program = seccomp.seccomp_program(machine, 1, frozenset({"accept4"}))
    assert run_filter(program, ARCH[machine], accept4) == ALLOW
    assert run_filter(program, ARCH[machine], bind) == EPERM
    assert run_filter(seccomp.seccomp_program(machine, 1), ARCH[machine], accept4) == EPERM
    with pytest.raises(KeyError):
        seccomp.seccomp_program(machine, 1, frozenset({"read"}))


@pytest.mark.parametrize(("machine", "read"), [("x86_64", 0), ("aarch64", 63)])
def test_who_forgoes_rings_is_told_that_there_are_none(machine, read):
    program = seccomp.ringless_program(machine)
    for number in (425, 426, 427):
        assert run_filter(program, ARCH[machine], number) == ENOSYS
    assert run_filter(program, ARCH[machine], read) == ALLOW
    assert seccomp.ringless_program("riscv64") is None
