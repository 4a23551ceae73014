"""Scanners and mail programs hand in mail: real clients, a real core, TLS, and whoever guesses."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import shutil
import smtplib
import socket
import ssl
import subprocess
import threading
import time

import pytest

from tests.servers.test_smtp_door import Line, certificate
from tests.servers.test_smtp_real_core import MailGateway, wire_bytes
from tests.support.sftp import free_port

__all__ = ["certificate"]  # a fixture

RELAXED = ssl.create_default_context()
RELAXED.check_hostname = False
RELAXED.verify_mode = ssl.CERT_NONE
PASSWORD = "correct horse battery"


class Scanners(MailGateway):
    """A gateway with all three entrances, and a client's account with an app password."""

    def __init__(self, template, certificate, **more):
        super().__init__(template, **more)
        self.lines = []
        self.submission, self.submissions = free_port(), free_port()
        text = self.config.read_text("utf-8")
        lines = [
            f'submission_listen = "127.0.0.1:{self.submission}"',
            f'submissions_listen = "127.0.0.1:{self.submissions}"',
            *(f'{key} = "{value}"' for key, value in certificate.items()),
        ]
        text = text.replace("[smtp]\n", "[smtp]\n" + "\n".join(lines) + "\n")
        self.config.write_text(text, "utf-8")

    def start_door(self):
        super().start_door()
        self.admin.call(
            "account.add", name="scans", role="client", client="mailer", password=PASSWORD
        )
        self.app = self.admin.call("account.app-password.add", name="scans", label="Copier")[
            "password"
        ]

    def smtps(self):
        return smtplib.SMTP_SSL("127.0.0.1", self.submissions, timeout=60, context=RELAXED)

    def line(self, port=None, source="127.0.0.1"):
        """A raw connection; over TLS from the first byte unless `port` says where."""
        raw = socket.create_connection(("127.0.0.1", port or self.submissions), 30, (source, 0))
        if port is None:
            raw = RELAXED.wrap_socket(raw)
        line = Line(raw)
        self.lines.append(line)
        assert line.reply().startswith("220 ")
        assert line.ask("EHLO scanner").startswith("250")
        return line

    def documents_of(self, client):
        return self.admin.call("document.list", client=client)


@pytest.fixture(scope="module")
def gateway(template, certificate):
    with Scanners(template, certificate) as running:
        yield running


@pytest.fixture(autouse=True)
def hung_up(gateway):
    """One source has sixteen connections at most: a test gives its own back."""
    yield
    while gateway.lines:
        gateway.lines.pop().close()


@pytest.fixture
def guarded(template, certificate):
    """The same, where nothing from this machine is exempt from penalties."""
    with Scanners(template, certificate, login="") as running:
        yield running


def plain(user, password, authorize=""):
    return base64.b64encode(f"{authorize}\0{user}\0{password}".encode()).decode()


def unique(gateway, text):
    message = gateway.mail()
    message["X-Test"] = text
    return wire_bytes(message)


# ── what is stored, and as whose ──


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("implicit", [True, False], ids=["465", "587"])
def test_a_scan_is_stored_for_the_accounts_client_whatever_its_from_says(
    gateway, mechanism, implicit
):
    raw = unique(gateway, f"{mechanism}-{implicit}")
    if implicit:
        client = gateway.smtps()
    else:
        client = smtplib.SMTP("127.0.0.1", gateway.submission, timeout=60)
        client.ehlo()
        assert "auth" not in client.esmtp_features
        client.starttls(context=RELAXED)
    with client:
        client.ehlo()
        assert client.esmtp_features["auth"].split() == ["PLAIN", "LOGIN"]
        client.user, client.password = "scans", gateway.app
        method = {"PLAIN": client.auth_plain, "LOGIN": client.auth_login}[mechanism]
        assert client.auth(mechanism, method)[0] == 235
        assert "auth" not in str(client.ehlo()[1]).lower()
        # The sender is nobody's, the recipient another client's name: the account decides.
        client.sendmail("copier@nowhere.example", ["acme@intake.localhost"], raw)
    found = [each for each in gateway.documents_of("mailer") if each["size"] == len(raw)]
    digest = hashlib.sha256(raw).hexdigest()
    (document,) = [each for each in found if each["sha256"] == digest]
    shown = gateway.admin.call("document.show", document=document["id"])
    assert shown["sender"] == "copier@nowhere.example"
    assert digest not in {each["sha256"] for each in gateway.documents_of("acme")}


def test_addresses_elsewhere_are_refused_because_nothing_is_passed_on(gateway):
    with gateway.smtps() as client:
        client.login("scans", gateway.app)
        client.mail("scans@mailer.example")
        for elsewhere in ("boss@mailer.example", "x@sub.intake.localhost"):
            code, said = client.rcpt(elsewhere)
            assert code == 550
            assert b"passes no mail on" in said
        assert client.rcpt("anything+at.all@intake.localhost")[0] == 250


def test_the_entrance_for_mail_servers_takes_no_login(gateway):
    line = gateway.line(gateway.port)
    assert "AUTH" not in line.ask("EHLO x")
    assert line.ask(f"AUTH PLAIN {plain('scans', gateway.app)}").startswith("502 ")
    line.ask("STARTTLS")
    line.start_tls()
    assert "AUTH" not in line.ask("EHLO x")
    assert line.ask(f"AUTH PLAIN {plain('scans', gateway.app)}").startswith("502 ")


def test_a_password_is_not_taken_in_the_clear_and_mail_not_before_a_login(gateway):
    line = gateway.line(gateway.submission)
    assert line.ask("MAIL FROM:<a@b.example>") == "530 5.7.0 Turn on encryption first (STARTTLS)"
    assert line.ask(f"AUTH PLAIN {plain('scans', gateway.app)}").startswith("538 5.7.11 ")
    assert line.ask("AUTH LOGIN").startswith("538 5.7.11 ")
    line.ask("STARTTLS")
    line.start_tls()
    line.ask("EHLO x")
    assert line.ask("MAIL FROM:<ap@mailer.example>").startswith("530 5.7.0 Log in first")
    assert line.ask("RCPT TO:<mailer@intake.localhost>").startswith("503 ")
    assert line.ask("DATA").startswith("503 ")
    line.send(b"BDAT 4 LAST\r\nabcd")
    assert line.reply().startswith("503 ")


@pytest.mark.parametrize(
    ("said", "reply"),
    [
        ("AUTH", "504 5.5.4"),
        ("AUTH CRAM-MD5", "504 5.5.4"),
        ("AUTH PLAIN !!!", "501 5.5.2"),
        ("AUTH PLAIN =", "501 5.5.2"),
        (f"AUTH PLAIN {base64.b64encode(b'no zero bytes').decode()}", "501 5.5.2"),
        (f"AUTH PLAIN {plain('scans', 'x', 'other')}", "501 5.5.2"),
        (f"AUTH PLAIN {plain('scans', '')}", "501 5.5.2"),
        (f"AUTH PLAIN {plain('scans', 'x' * 1025)}", "501 5.5.2"),
        (f"AUTH PLAIN {'A' * 13000}", "500 5.5.2"),
        (f"AUTH PLAIN {base64.b64encode(bytes([0, 255, 0, 254])).decode()}", "501 5.5.2"),
        ("AUTH PLAIN\r\n*", "334"),
        ("AUTH LOGIN\r\n*", "334"),
        ("AUTH LOGIN\r\nc2NhbnM=\r\n*", "334"),
    ],
    ids=lambda each: each[:24],
)
def test_what_is_no_login_is_refused_and_the_connection_goes_on(gateway, said, reply):
    line = gateway.line()
    assert line.ask(said).startswith(reply)
    for _ in range(said.count("\r\n")):
        answer = line.reply()
    if "*" in said:
        assert answer == "501 5.7.0 Login cancelled"
    assert line.ask(f"AUTH PLAIN {plain('scans', gateway.app)}").startswith("235 ")
    assert line.ask(f"AUTH PLAIN {plain('scans', gateway.app)}").startswith("503 ")


def test_a_login_within_a_transaction_is_out_of_order_and_one_is_for_good(gateway):
    line = gateway.line()
    line.ask(f"AUTH PLAIN {plain('scans', gateway.app)}")
    assert line.ask("MAIL FROM:<a@b.example>").startswith("250 ")
    assert line.ask(f"AUTH PLAIN {plain('scans', gateway.app)}").startswith("503 ")


# ── which passwords, and whose ──


def test_an_app_password_may_be_typed_in_groups_or_not_and_in_capitals(gateway):
    for typed in (gateway.app, gateway.app.replace("-", ""), gateway.app.upper()):
        with gateway.smtps() as client:
            client.login("scans", typed)


def test_the_accounts_own_password_counts_where_it_is_enough(gateway):
    with gateway.smtps() as client:
        client.login("scans", PASSWORD)


def test_where_a_code_is_enrolled_only_an_app_password_will_do(gateway):
    call = gateway.admin.call
    call("account.add", name="coded", role="client", client="mailer", password=PASSWORD)
    call("account.totp", name="coded")
    app = call("account.app-password.add", name="coded", label="Scanner")["password"]
    with gateway.smtps() as client, pytest.raises(smtplib.SMTPAuthenticationError):
        client.login("coded", PASSWORD)
    with gateway.smtps() as client:
        client.login("coded", app)


def test_staff_hand_in_nothing_and_hear_what_strangers_hear(gateway):
    call = gateway.admin.call
    call("account.add", name="bookkeeper", role="accountant", password=PASSWORD)
    replies = set()
    for user, password in (
        ("bookkeeper", PASSWORD), ("nobody", PASSWORD), ("scans", "wrong"), ("scans", gateway.app[:-1] + "?"),
    ):  # fmt: skip
        line = gateway.line()
        replies.add(line.ask(f"AUTH PLAIN {plain(user, password)}"))
    assert replies == {
        "535 5.7.8 The user name or password is wrong, or may not be used from here now"
    }
    refused = pytest.raises(Exception, match="expected one of a client")
    with refused:
        call("account.app-password.add", name="bookkeeper", label="Phone")


def test_each_device_has_its_own_and_losing_one_costs_the_others_nothing(gateway):
    call = gateway.admin.call
    other = call("account.app-password.add", name="scans", label="Second floor")["password"]
    listed = {each["label"]: each for each in call("account.app-password.list", name="scans")}
    assert listed["Second floor"]["last_used_at"] is None
    assert listed["Second floor"]["begins"] == other[:4]
    assert other not in str(listed)
    live = gateway.line()
    assert live.ask(f"AUTH PLAIN {plain('scans', other)}").startswith("235 ")
    listed = {each["label"]: each for each in call("account.app-password.list", name="scans")}
    assert listed["Second floor"]["last_used_at"] is not None
    call("account.app-password.remove", name="scans", label="Second floor")
    assert "Second floor" not in str(call("account.app-password.list", name="scans"))
    # The session that was open with it has ended, in the middle of what it was doing.
    live.ask("MAIL FROM:<a@b.example>")
    assert live.ask("RCPT TO:<x@intake.localhost>") == (
        "421 4.7.0 The login has ended; connect and log in again"
    )
    assert live.reply() == ""
    with gateway.smtps() as client, pytest.raises(smtplib.SMTPAuthenticationError):
        client.login("scans", other)
    with gateway.smtps() as client:
        client.login("scans", gateway.app)


def test_an_account_that_is_disabled_or_bound_to_other_places_hands_in_nothing(gateway):
    call = gateway.admin.call
    call("account.add", name="bound", role="client", client="mailer", password=PASSWORD)
    app = call("account.app-password.add", name="bound", label="x")["password"]
    for act, arguments, fits in (
        ("account.change", {"networks": ["192.0.2.0/24"]}, False),
        ("account.change", {"networks": []}, True),
        ("account.disable", {}, False),
        ("account.enable", {}, True),
        ("account.change", {"expires": "2020-01-01"}, False),
    ):
        call(act, name="bound", **arguments)
        line = gateway.line()
        reply = line.ask(f"AUTH PLAIN {plain('bound', app)}")
        assert reply.startswith("235 " if fits else "535 "), (act, arguments, reply)


# ── whoever guesses ──


def test_three_wrong_logins_end_the_connection(gateway):
    line = gateway.line()
    replies = [line.ask(f"AUTH PLAIN {plain('scans', f'guess{n}')}")[:3] for n in range(3)]
    assert replies == ["535"] * 3
    assert line.reply().startswith("421 4.7.0 Too many wrong logins")
    assert line.reply() == ""


def guess(gateway, source):
    """Three wrong passwords on one connection."""
    with contextlib.suppress(OSError, ssl.SSLError):
        line = gateway.line(source=source)
        for number in range(3):
            line.ask(f"AUTH PLAIN {plain('scans', f'guess {number}')}")


def test_guessing_is_throttled_and_locks_nobody_else_out(guarded):
    """Ten guesses at an account from one source are looked at; the owner elsewhere logs in at once."""
    guessers = [threading.Thread(target=guess, args=(guarded, "127.0.9.1")) for _ in range(4)]
    for each in guessers:
        each.start()
    began = time.monotonic()
    line = guarded.line(source="127.0.77.1")
    assert line.ask(f"AUTH PLAIN {plain('scans', guarded.app)}").startswith("235 ")
    assert time.monotonic() - began < 20
    for each in guessers:
        each.join()
    assert "127.0.9.1" in {each["source"] for each in guarded.admin.call("penalty.list")}
    # What is not looked at is wrong, even where it is right; that is the source's, not the account's.
    line = guarded.line(source="127.0.9.1")
    assert line.ask(f"AUTH PLAIN {plain('scans', guarded.app)}").startswith("535 ")
    line = guarded.line(source="127.0.77.1")
    assert line.ask(f"AUTH PLAIN {plain('scans', guarded.app)}").startswith("235 ")
    said = guarded.door.log() + guarded.core.log()
    assert guarded.app not in said
    assert "guess" not in said


def test_no_secret_is_in_any_log(gateway):
    said = gateway.door.log() + gateway.core.log()
    for secret in (gateway.app, gateway.app.replace("-", ""), PASSWORD):
        assert secret not in said
        assert base64.b64encode(secret.encode()).decode() not in said


# ── real programs ──


def test_curl_hands_in_over_both_entrances(gateway, tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    for number, address in enumerate(
        (f"smtps://127.0.0.1:{gateway.submissions}", f"smtp://127.0.0.1:{gateway.submission}")
    ):
        raw = unique(gateway, f"curl {number}")
        (tmp_path / "mail").write_bytes(raw)
        (tmp_path / "config").write_text(f'user = "scans:{gateway.app}"\n')
        ran = subprocess.run(
            [
                *("curl", "--silent", "--show-error", "--insecure", "--ssl-reqd", address),
                *("--config", str(tmp_path / "config"), "--mail-from", "scan@copier.example"),
                *("--mail-rcpt", "scan@intake.localhost", "--upload-file", str(tmp_path / "mail")),
            ],
            check=False, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        assert hashlib.sha256(raw).hexdigest() in {
            each["sha256"] for each in gateway.documents_of("mailer")
        }


def test_swaks_hands_in_over_both_entrances(gateway):
    if shutil.which("swaks") is None:
        pytest.skip("swaks is not installed")
    before = len(gateway.documents_of("mailer"))
    for arguments in (
        ("--port", str(gateway.submissions), "--tls-on-connect", "--auth", "PLAIN"),
        ("--port", str(gateway.submission), "--tls", "--auth", "LOGIN"),
    ):
        ran = subprocess.run(
            [
                *("swaks", "--server", "127.0.0.1", *arguments, "--auth-user", "scans"),
                *("--auth-password", gateway.app, "--from", "x@y.example"),
                *("--to", "scan@intake.localhost", "--body", f"by {arguments[-1]}"),
            ],
            check=False, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        if "requires Net::SSLeay" in ran.stderr:
            pytest.skip("swaks can't do TLS without libnet-ssleay-perl")
        assert ran.returncode == 0, ran.stdout
    assert len(gateway.documents_of("mailer")) == before + 2


@pytest.mark.parametrize("entrance", ["submission", "submissions"])
def test_msmtp_hands_in(gateway, tmp_path, entrance, certificate):
    if shutil.which("msmtp") is None:
        pytest.skip("msmtp is not installed")
    rc = tmp_path / "msmtprc"
    rc.touch(mode=0o600)
    starttls = "on" if entrance == "submission" else "off"
    rc.write_text(
        "account default\nhost 127.0.0.1\nauth on\nuser scans\nfrom scan@copier.example\ntls on\n"
        "tls_certcheck off\n"
        f"port {getattr(gateway, entrance)}\npassword {gateway.app}\ntls_starttls {starttls}\n"
    )
    raw = unique(gateway, f"msmtp {entrance}").replace(b"\r\n", b"\n")
    ran = subprocess.run(
        ["msmtp", "-C", str(rc), "scan@intake.localhost"],
        input=raw, check=False, capture_output=True, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr


def by_swaks(gateway, path):
    return [
        *("swaks", "--server", f"127.0.0.1:{gateway.port}", "--tls", "--from", "ap@mailer.example"),
        *("--to", "mailer@intake.localhost", "--data", f"@{path}", "--timeout", "60"),
    ]


def by_curl(gateway, path):
    return [
        *("curl", "--silent", "--show-error", "--insecure", "--ssl-reqd", "--crlf"),
        *("--upload-file", str(path)),
        *("--mail-from", "ap@mailer.example", "--mail-rcpt", "mailer@intake.localhost"),
        f"smtp://127.0.0.1:{gateway.port}",
    ]  # fmt: skip


def by_msmtp(gateway, _path):
    return [
        *("msmtp", "-C", "/dev/null", "--host=127.0.0.1", f"--port={gateway.port}", "--tls=on"),
        *("--tls-certcheck=off", "--auth=off", "--from=ap@mailer.example", "mailer@intake.localhost"),
    ]  # fmt: skip


def by_smtp_source(gateway, path):
    program = shutil.which("smtp-source") or "/usr/sbin/smtp-source"  # it can do no TLS
    return [
        *(program, "-F", str(path), "-f", "ap@mailer.example", "-t", "mailer@intake.localhost"),
        f"127.0.0.1:{gateway.port}",
    ]


@pytest.mark.parametrize("command", [by_swaks, by_curl, by_msmtp, by_smtp_source])
def test_each_program_delivers_to_the_entrance_for_mail_servers(gateway, tmp_path, command):
    raw = unique(gateway, command.__name__)
    path = tmp_path / "mail"
    path.write_bytes(raw.replace(b"\r\n", b"\n"))
    arguments = command(gateway, path)
    if shutil.which(arguments[0]) is None:
        pytest.skip(f"{arguments[0]} is not installed")
    before = {each["id"] for each in gateway.documents_of("mailer")}
    ran = subprocess.run(
        arguments, input=path.read_bytes(), check=False, capture_output=True, timeout=60
    )
    if b"requires Net::SSLeay" in ran.stderr:
        pytest.skip("swaks can't do TLS without libnet-ssleay-perl")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (document,) = [each for each in gateway.documents_of("mailer") if each["id"] not in before]
    # The same bytes, but for an end of line that a program puts at the end, and what it adds before.
    assert 0 <= document["size"] - len(raw) <= 300


def test_python_delivers_to_the_entrance_for_mail_servers(gateway):
    raw = unique(gateway, "smtplib on 25")
    with smtplib.SMTP("127.0.0.1", gateway.port, timeout=60) as client:
        client.starttls(context=RELAXED)
        client.sendmail("ap@mailer.example", ["mailer@intake.localhost"], raw)
    digests = {each["sha256"] for each in gateway.documents_of("mailer")}
    assert hashlib.sha256(raw).hexdigest() in digests


def test_a_printer_that_sends_again_makes_one_document(gateway):
    raw = unique(gateway, "again")
    said = []
    for _ in range(2):
        with gateway.smtps() as client:
            client.login("scans", gateway.app)
            client.mail("scan@copier.example")
            client.rcpt("scan@intake.localhost")
            said.append(client.data(raw)[1].decode())
    first = said[0].removeprefix("2.0.0 Stored as ")
    assert said[1] == f"2.0.0 Already stored as {first}"
