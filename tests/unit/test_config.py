"""The configuration: what the example promises, and how every fault in a file is told."""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from gateway.config import Config, KeyringCopy, WebhookSection, decode, load, parse_listen
from gateway.config.addresses import server_address
from gateway.config.sections import MailboxSection
from gateway.errors import ConfigurationError

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"
SECTIONS = [name for name in Config.__struct_fields__ if name not in {"base", "source"}]


def example(*, with_comments: bool = False) -> dict:
    text = EXAMPLE.read_text("utf-8")
    if with_comments:
        # Settings that are off by default stand there as `#key`, prose as `# text`.
        text = re.sub(r"^#(?=[a-z\[])", "", text, flags=re.MULTILINE)
    return tomllib.loads(text)


def test_the_example_decodes_to_exactly_the_defaults() -> None:
    shown = decode(EXAMPLE.read_bytes(), EXAMPLE)
    default = decode(b"", EXAMPLE)
    for name in SECTIONS:
        assert getattr(shown, name) == getattr(default, name)


def test_the_example_names_every_key_of_every_section_and_no_other() -> None:
    shown = example(with_comments=True)
    assert list(shown) == SECTIONS
    for name in SECTIONS:
        if name == "mailbox":  # no mailbox has every key
            used = {key for section in shown[name] for key in section}
            assert used == set(MailboxSection.__struct_fields__)
            continue
        if name == "webhook":  # once for each
            assert [list(each) for each in shown[name]] == [list(WebhookSection.__struct_fields__)]
            continue
        fields = type(getattr(Config(), name)).__struct_fields__
        assert list(shown[name]) == list(fields), name
    # No place has every key: the three kinds are shown one after the other.
    used = [name for copy in shown["keyring"]["copies"] for name in copy]
    assert list(dict.fromkeys(used)) == [
        "name", "directory", "keeps_days", "sftp", "host_key", "key", "s3", "endpoint", "region",
        "credentials",
    ]  # fmt: skip
    assert set(used) == set(KeyringCopy.__struct_fields__)


def test_the_commented_part_of_the_example_decodes_too() -> None:
    text = re.sub(r"^#(?=[a-z\[])", "", EXAMPLE.read_text("utf-8"), flags=re.MULTILINE)
    assert len(decode(text.encode(), EXAMPLE).keyring.copies) == 3


def test_every_key_of_the_example_stands_below_prose_of_its_own() -> None:
    lines = EXAMPLE.read_text("utf-8").splitlines()
    bare = [
        line
        for before, line in itertools.pairwise(lines)
        if re.match(r"[a-z_]+ = ", line) and not before.startswith("# ")
    ]
    assert bare == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[store]\npth = 'x'\n", ["key store.pth", "known key", "unknown"]),
        ("[stor]\n", ["key stor", "known key"]),
        ("[[keyring.copies]]\nname = 'a'\ndirectory = '/x'\nwho = 1\n", ["copies", "who"]),
        ("[sftp]\nmax_connections = 'many'\n", ["sftp.max_connections", "'many'"]),
        ("[sftp]\nmax_connections = 0\n", ["sftp.max_connections", ">= 1", "found 0"]),
        ("[sftp]\nlogin_grace = 0\n", ["sftp.login_grace", "found 0"]),
        ("[sftp]\nlisten = 'nowhere'\n", ["sftp.listen", "host:port", "'nowhere'"]),
        ("[smtp]\nlisten = '127.0.0.1:70000'\n", ["smtp.listen", "host:port"]),
        ("[smtp]\ntls_key = 'k.pem'\n", ["smtp.tls_certificate", "one of the two"]),
        ("[inspect]\nclamd = 'maybe'\n", ["inspect.clamd", "'maybe'"]),
        ("[disposal]\napprovals = 1\n", ["disposal.approvals", ">= 2", "found 1"]),
        ("[retention]\npacks = 'cn'\n", ["retention.packs", "'cn'"]),
        ("[keyring]\ncopies = [{name = 'A B', directory = 'x'}]\n", ["keyring.copies", "'A B'"]),
        (
            "[[keyring.copies]]\nname='a'\ndirectory='x'\n[[keyring.copies]]\nname='a'\ndirectory='y'\n",
            ["keyring.copies", "distinct names"],
        ),
        *(
            (f"[[keyring.copies]]\nname='a'\n{text}\n", ["keyring.copies (a)", *words])
            for text, words in [
                ("", ["exactly one of directory, sftp and s3", "found none"]),
                ("directory='x'\ns3='s3://bucket'", ["found directory and s3"]),
                ("directory='x'\nkey='k'", ["key together with sftp only"]),
                ("directory='x'\ncredentials='k'", ["credentials together with s3 only"]),
                ("sftp='sftp://u@h/x'\nhost_key='k'", ["expected key together with sftp"]),
                ("sftp='sftp://u@h/x'\nkey='k'", ["expected host_key together with sftp"]),
                *(
                    (f"sftp='{address}'\nkey='k'\nhost_key='k'", ["sftp://user@host:port/path"])
                    for address in [
                        "u@h:/x",
                        "sftp://h/x",
                        "sftp://u@h",
                        "sftp://u:secret@h/x",
                        "sftp://u@h:0/x",
                        "sftp://u@h:70000/x",
                        "scp://u@h/x",
                        "sftp://u@h/x?y",
                    ]
                ),
                (
                    "sftp='sftp://u@h/x'\nkey='k'\nhost_key='ssh-ed25519'",
                    ["host_key", "found another"],
                ),
                (
                    f"sftp='sftp://u@h/x'\nkey='k'\nhost_key='ssh-ed25519 {'A' * 68}'",
                    ["host_key", "found another"],
                ),
                ("s3='s3://bucket'", ["expected credentials together with s3"]),
                ("s3='bucket'\ncredentials='c'", ["s3://bucket/prefix"]),
                ("s3='s3://bucket/a b'\ncredentials='c'", ["s3://bucket/prefix"]),
                (
                    "s3='s3://bucket'\ncredentials='c'\nendpoint='http://far.example'",
                    ["https://host", "this machine only"],
                ),
            ]
        ),
        (
            "[keyring]\ncopies = [{name = 'a', directory = 'x', keeps_days = -1}]\n",
            ["keyring.copies[0].keeps_days", "found -1"],
        ),
        *(
            (f"[relay]\naddress='{address}'\n{text}\n", ["key relay", *words])
            for address, text, words in [
                ("relay.example.com", "", ["host:port"]),
                ("relay.example.com:25", "", ["sender", "receipts@example.com", "found ''"]),
                ("relay.example.com:25", "sender='a@b'\ntls='none'", ["this machine only"]),
                (
                    "127.0.0.1:25",
                    "sender='a@b.example'\nuser='u'",
                    ["user together with credentials"],
                ),
                ("127.0.0.1:25", "sender='张@b.example'", ["sender"]),
                ("127.0.0.1:25", "sender='a@b.example'\nreply_to='nobody'", ["reply_to"]),
                (
                    "127.0.0.1:25",
                    "sender='a@b.example'\nsender_name=\"a\\u000ab\"",
                    ["sender_name", "printable"],
                ),
                ("127.0.0.1:25", "sender='a@b.example'\ndkim_key='k'", ["dkim_selector"]),
            ]
        ),
        *(
            (
                f"[[webhook]]\nname='a'\nsecret='k'\nurl='{url}'\n",
                ["webhook (a)", "this machine only"],
            )
            for url in [
                "http://far.example/x",
                "ftp://127.0.0.1/",
                "https://u:secret@far.example/",
                "https://",
                "https://far.example/#x",
            ]
        ),
        ("[[webhook]]\nname='a'\nurl='https://a.example/'\n", ["secret"]),
        (
            "[[webhook]]\nname='a'\nurl='https://a.example/'\nsecret='k'\n" * 2,
            ["webhook", "distinct names"],
        ),
        ("[log]\nlevel = 'loud'\n", ["log.level", "'loud'"]),
        (f"[sockets]\ndirectory = '{'d' * 120}'\n", ["sockets.directory", "at most 107 bytes"]),
        ("[store\n", ["TOML"]),
    ],
)
def test_a_fault_is_told_with_file_key_expected_and_found(text: str, words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        decode(text.encode(), Path("/somewhere/config.toml"))
    message = str(caught.value)
    assert message.startswith("/somewhere/config.toml: ")
    assert "expected" in message
    assert "found" in message
    for word in words:
        assert word in message


def test_bytes_that_are_no_utf_8_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="TOML in UTF-8"):
        decode(b"\xff\xfe", Path("config.toml"))


def test_a_configuration_that_is_not_there_or_a_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        load(tmp_path / "config.toml")
    with pytest.raises(ConfigurationError, match="Is a directory"):
        load(tmp_path)


def test_without_a_path_the_folder_s_own_configuration_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text("[smtp]\ndomain = 'here.example'\n")
    monkeypatch.chdir(tmp_path)
    assert load().smtp.domain == "here.example"


def test_paths_are_relative_to_the_configuration_and_not_to_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "config.toml").write_text("[store]\npath = '../vault'\nroot_key = ''\n")
    monkeypatch.chdir(tmp_path)
    config = load(Path("etc/config.toml"))
    assert config.store_path.resolve() == (tmp_path / "vault").resolve()
    assert config.store_path.is_absolute()
    assert config.root_key == ""


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("127.0.0.1:2222", ("127.0.0.1", 2222)),
        ("[::1]:0", ("::1", 0)),
        ("localhost:65535", ("localhost", 65535)),
    ],
)
def test_an_address_is_split_into_host_and_port(text: str, parts: tuple[str, int]) -> None:
    assert parse_listen(text, "key") == parts


@pytest.mark.parametrize(
    "text", ["", ":22", "host", "host:", "host:65536", "::1:22", "[x]:1", "a:b:1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="host:port"):
        parse_listen(text, "key")


def test_a_decoded_configuration_can_t_be_changed() -> None:
    config = decode(b"", Path("config.toml"))
    with pytest.raises(AttributeError):
        config.store.path = "elsewhere"  # type: ignore[misc]
    assert msgspec.structs.replace(config.store, path="elsewhere").path == "elsewhere"


@pytest.mark.parametrize("text", ["dns.example", "dns.example:53", "999.1.1.1", "[::zz]:53", ""])
def test_a_resolver_is_named_by_its_address(text: str) -> None:
    with pytest.raises(ConfigurationError):
        server_address(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1", ("127.0.0.1", 53)),
        ("127.0.0.1:5353", ("127.0.0.1", 5353)),
        ("2001:db8::53", ("2001:db8::53", 53)),
        ("[2001:db8::53]:5353", ("2001:db8::53", 5353)),
    ],
)
def test_a_resolvers_address_has_a_port_or_that_of_dns(
    text: str, expected: tuple[str, int]
) -> None:
    assert server_address(text) == expected
