"""The programs people reach the sftp door with, behind one interface, for one contract to be held to all of them.

Each adapter runs the real program (or library) with this gateway's host keys pinned and one account's key. What a
program cannot do is absent from its `can`; a program that is not installed, or that the machine cannot run, is
skipped with the reason. `text` is everything a person would have seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

import asyncssh
import paramiko
import pytest

from tests.support.filezilla import FileZilla
from tests.support.sftp_client import HOST, Client, Outcome, quoted
from tests.support.wire import until


class OpenSsh(Client):
    """OpenSSH's sftp, in batches."""

    refusal = "Permission denied"  # of a status it shows the code's name only
    options: tuple[str, ...] = ()

    def batch(self, user: str, *commands: str) -> Outcome:
        """Run commands until one fails."""
        command = self.gateway.sftp_command(user, *self.options)
        return self.run(command, "".join(f"{line}\n" for line in commands))

    def upload(self, user: str, local: Path, remote: str) -> Outcome:
        return self.batch(user, f"put {quoted(local, remote)}")

    def download(self, user: str, remote: str, local: Path) -> Outcome:
        return self.batch(user, f"get {quoted(remote, local)}")

    def listing(self, user: str, folder: str) -> list[str]:
        done = self.batch(user, f"cd {quoted(folder)}", "ls -1")
        assert done.done, done.text
        return [line for line in done.text.splitlines() if not line.startswith("sftp> ")]

    def resume(self, user: str, local: Path, remote: str) -> Outcome:
        return self.batch(user, f"reput {quoted(local, remote)}")

    def rename(self, user: str, old: str, new: str) -> Outcome:
        return self.batch(user, f"rename {quoted(old, new)}")


class Scp(Client):
    """OpenSSH's scp, which speaks SFTP since 9.0."""

    can = frozenset()
    refusal = "Permission denied"

    def copy(self, user: str, *words: str) -> Outcome:
        """Run it with further options, sources and a target."""
        options = ["-s", "-P", str(self.gateway.port), *self.gateway.options(user)]
        return self.run(["scp", *options, *words])

    def upload(self, user: str, local: Path, remote: str) -> Outcome:
        return self.copy(user, str(local), f"{user}@{HOST}:{remote}")

    def download(self, user: str, remote: str, local: Path) -> Outcome:
        return self.copy(user, f"{user}@{HOST}:{remote}", str(local))


class _Putty(Client):
    """What PuTTY's two programs share: keys in their own format, the host key as a fingerprint."""

    refusal = "permission denied"

    def _options(self, user: str) -> list[str]:
        key = self.home / f"{user}.ppk"
        if not key.exists():
            made = self.run(
                ["puttygen", str(self.gateway.key(user)), "-O", "private", "-o", str(key)]
            )
            assert made.done, made.text
        port = str(self.gateway.port)
        return ["-batch", "-hostkey", self.fingerprint, "-P", port, "-i", str(key)]


class Psftp(_Putty):
    """PuTTY's psftp, in batches."""

    def batch(self, user: str, *commands: str) -> Outcome:
        """Run commands until one fails."""
        script = self.home / "batch"
        script.write_text("".join(f"{line}\n" for line in commands), "utf-8")
        return self.run(["psftp", *self._options(user), "-b", str(script), f"{user}@{HOST}"])

    def upload(self, user: str, local: Path, remote: str) -> Outcome:
        return self.batch(user, f"put {quoted(local, remote)}")

    def download(self, user: str, remote: str, local: Path) -> Outcome:
        return self.batch(user, f"get {quoted(remote, local)}")

    def listing(self, user: str, folder: str) -> list[str]:
        done = self.batch(user, f"ls {quoted(folder)}")
        assert done.done, done.text
        lines = done.text.splitlines()
        return [line.split(maxsplit=8)[8] for line in lines if line[:2] in {"-r", "dr"}]

    def resume(self, user: str, local: Path, remote: str) -> Outcome:
        return self.batch(user, f"reput {quoted(local, remote)}")

    def rename(self, user: str, old: str, new: str) -> Outcome:
        return self.batch(user, f"mv {quoted(old, new)}")


class Pscp(_Putty):
    """PuTTY's pscp over SFTP."""

    can = frozenset({"list"})

    def _copy(self, user: str, *more: str) -> Outcome:
        return self.run(["pscp", "-sftp", *self._options(user), *more])

    def upload(self, user: str, local: Path, remote: str) -> Outcome:
        return self._copy(user, str(local), f"{user}@{HOST}:{remote}")

    def download(self, user: str, remote: str, local: Path) -> Outcome:
        return self._copy(user, f"{user}@{HOST}:{remote}", str(local))

    def listing(self, user: str, folder: str) -> list[str]:
        done = self._copy(user, "-ls", f"{user}@{HOST}:{folder}")
        assert done.done, done.text
        lines = done.text.splitlines()
        return [line.split(maxsplit=8)[8] for line in lines if line[:2] in {"-r", "dr"}]


class Lftp(Client):
    """lftp, over OpenSSH's ssh."""

    def script(self, user: str, *commands: str) -> Outcome:
        """Run commands until one fails."""
        connect = " ".join(["ssh -a -x", *self.gateway.options(user)])
        return self.run([
            "lftp", "-c", "; ".join([
                f'set sftp:connect-program "{connect}"',
                "set net:max-retries 1", "set cmd:fail-exit yes",
                f"open -p {self.gateway.port} sftp://{user}:@{HOST}", *commands,
            ]),
        ])  # fmt: skip

    def upload(self, user: str, local: Path, remote: str) -> Outcome:
        return self.script(user, f"put {quoted(local)} -o {quoted(remote)}")

    def download(self, user: str, remote: str, local: Path) -> Outcome:
        return self.script(user, f"pget -n 3 {quoted(remote)} -o {quoted(local)}")

    def listing(self, user: str, folder: str) -> list[str]:
        done = self.script(user, f"cd {quoted(folder)}", "cls -1")
        assert done.done, done.text
        return [line.rstrip("/") for line in done.text.splitlines() if not line.startswith("cd ")]

    def resume(self, user: str, local: Path, remote: str) -> Outcome:
        return self.script(user, f"put -c {quoted(local)} -o {quoted(remote)}")

    def rename(self, user: str, old: str, new: str) -> Outcome:
        return self.script(user, f"mv {quoted(old, new)}")


class Rclone(Client):
    """rclone, whose commands for hashing on the server are absent."""

    can = frozenset({"list", "rename"})
    refusal = "permission denied"

    def command(self, user: str, *words: str) -> Outcome:
        """Run a command; a word that begins with @ is a remote path."""
        remote = (
            f":sftp,host={HOST},port={self.gateway.port},user={user},"
            f"key_file={self.gateway.key(user)},known_hosts_file={self.known_hosts},"
            "shell_type=none,md5sum_command=none,sha1sum_command=none:"
        )
        given = [remote + word[1:] if word.startswith("@") else word for word in words]
        return self.run(["rclone", "--retries", "1", "--low-level-retries", "1", *given])

    def upload(self, user: str, local: Path, remote: str) -> Outcome:
        return self.command(user, "copyto", str(local), f"@{remote}")

    def download(self, user: str, remote: str, local: Path) -> Outcome:
        return self.command(user, "copyto", f"@{remote}", str(local))

    def listing(self, user: str, folder: str) -> list[str]:
        done = self.command(user, "lsf", f"@{folder}")
        assert done.done, done.text
        return [line.rstrip("/") for line in done.text.splitlines() if "NOTICE" not in line]

    def rename(self, user: str, old: str, new: str) -> Outcome:
        return self.command(user, "moveto", f"@{old}", f"@{new}")


class Curl(Client):
    """curl, over libssh2."""

    refusal = "Permission denied"

    def transfer(self, user: str, remote: str, *options: str) -> Outcome:
        """One transfer, with the host key pinned by its digest."""
        key = self.gateway.key(user)
        digest = self.fingerprint.removeprefix("SHA256:")
        url = f"sftp://{HOST}:{self.gateway.port}{quote(remote)}"
        return self.run([
            "curl", "-sS", "--user", f"{user}:", "--key", str(key), "--pubkey", f"{key}.pub",
            "--hostpubsha256", digest, *options, url,
        ])  # fmt: skip

    def upload(self, user: str, local: Path, remote: str) -> Outcome:
        return self.transfer(user, remote, "-T", str(local))

    def download(self, user: str, remote: str, local: Path) -> Outcome:
        return self.transfer(user, remote, "-o", str(local))

    def listing(self, user: str, folder: str) -> list[str]:
        done = self.transfer(user, f"{folder}/", "--list-only")
        assert done.done, done.text
        return done.text.splitlines()

    def resume(self, user: str, local: Path, remote: str) -> Outcome:
        return self.transfer(user, remote, "-C", "-", "-T", str(local))

    def rename(self, user: str, old: str, new: str) -> Outcome:
        return self.transfer(user, "/", "-o", "/dev/null", "-Q", f"rename {quoted(old, new)}")


class Sshfs(Client):
    """sshfs: the folder as a file system."""

    refusal = "Permission denied"

    @contextlib.contextmanager
    def _mounted(self, user: str) -> Iterator[Path]:
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            pytest.skip("the kernel gives no FUSE device here")
        point = Path(tempfile.mkdtemp(prefix="mount-", dir=self.home))
        options = [word for word in self.gateway.options(user) if word not in {"-F", "none"}]
        key = options.index("-i")
        options[key : key + 2] = ["-o", f"IdentityFile={self.gateway.key(user)}"]
        mounted = self.run([
            "sshfs", "-p", str(self.gateway.port), *options, f"{user}@{HOST}:/", str(point),
        ])  # fmt: skip
        if "mount failed: Operation not permitted" in mounted.text:
            pytest.skip("the kernel lets nobody mount FUSE here")
        assert mounted.done, mounted.text
        try:
            yield point
        finally:
            until(lambda: self.run(["fusermount3", "-u", str(point)]).done)

    def _try(self, user: str, work: Callable[[Path], object]) -> Outcome:
        with self._mounted(user) as point:
            try:
                work(point)
            except OSError as error:
                return Outcome(done=False, text=str(error))
            return Outcome(done=True, text="")

    def upload(self, user: str, local: Path, remote: str) -> Outcome:
        def copy(point: Path) -> None:
            shutil.copyfile(local, point / remote.lstrip("/"))
            # FUSE tells sshfs of the close after the copying program went on; an unmount at once would
            # drop that, and the upload would have been interrupted. A temporary name is never a document.
            size = local.stat().st_size
            with contextlib.suppress(AssertionError):
                until(lambda: self._arrived(Path(remote).name, size))

        return self._try(user, copy)

    def _arrived(self, name: str, size: int) -> bool:
        waiting = {(each["name"], each["size"]) for each in self.gateway.partials()}
        return name in self.gateway.documents() or (name, size) in waiting

    def download(self, user: str, remote: str, local: Path) -> Outcome:
        return self._try(user, lambda point: shutil.copyfile(point / remote.lstrip("/"), local))

    def listing(self, user: str, folder: str) -> list[str]:
        with self._mounted(user) as point:
            return [path.name for path in (point / folder.lstrip("/")).iterdir()]

    def resume(self, user: str, local: Path, remote: str) -> Outcome:
        def append(point: Path) -> None:
            target = point / remote.lstrip("/")
            done = target.stat().st_size
            with local.open("rb") as source, target.open("ab") as sink:
                source.seek(done)
                shutil.copyfileobj(source, sink)

        return self._try(user, append)

    def rename(self, user: str, old: str, new: str) -> Outcome:
        return self._try(
            user, lambda point: (point / old.lstrip("/")).rename(point / new.lstrip("/"))
        )


class AsyncSsh(Client):
    """asyncssh as a client."""

    def _do(self, user: str, *steps: Callable[[asyncssh.SFTPClient], object]) -> Outcome:
        async def work() -> None:
            async with (
                asyncssh.connect(
                    HOST, self.gateway.port, username=user, config=None,
                    client_keys=[str(self.gateway.key(user))],
                    known_hosts=str(self.gateway.folder / "demo" / "known_hosts"),
                ) as connection,
                connection.start_sftp_client() as client,
            ):  # fmt: skip
                for step in steps:
                    await step(client)

        try:
            asyncio.run(work())
        except (asyncssh.SFTPError, OSError) as error:
            return Outcome(done=False, text=str(error))
        return Outcome(done=True, text="")

    def upload(self, user: str, local: Path, remote: str) -> Outcome:
        # Its blocks go in parallel, out of order at times.
        return self._do(
            user, lambda client: client.put(str(local), remote, block_size=65536, max_requests=64)
        )

    def download(self, user: str, remote: str, local: Path) -> Outcome:
        return self._do(user, lambda client: client.get(remote, str(local)))

    def listing(self, user: str, folder: str) -> list[str]:
        names: list[str] = []

        async def look(client: asyncssh.SFTPClient) -> None:
            names.extend(str(name) for name in await client.listdir(folder))

        done = self._do(user, look)
        assert done.done, done.text
        return names

    def resume(self, user: str, local: Path, remote: str) -> Outcome:
        async def append(client: asyncssh.SFTPClient) -> None:
            done = await client.getsize(remote)
            async with client.open(remote, "ab") as sink:
                await sink.write(local.read_bytes()[done:])

        return self._do(user, append)

    def rename(self, user: str, old: str, new: str) -> Outcome:
        return self._do(user, lambda client: client.rename(old, new))


class Paramiko(Client):
    """paramiko as a client."""

    def _do(self, user: str, step: Callable[[paramiko.SFTPClient], object]) -> Outcome:
        try:
            with self.gateway.paramiko(user) as client:
                step(client)
        except OSError as error:
            return Outcome(done=False, text=str(error))
        return Outcome(done=True, text="")

    def upload(self, user: str, local: Path, remote: str) -> Outcome:
        return self._do(user, lambda client: client.put(str(local), remote))

    def download(self, user: str, remote: str, local: Path) -> Outcome:
        return self._do(user, lambda client: client.get(remote, str(local)))

    def listing(self, user: str, folder: str) -> list[str]:
        names: list[str] = []
        done = self._do(user, lambda client: names.extend(client.listdir(folder)))
        assert done.done, done.text
        return names

    def resume(self, user: str, local: Path, remote: str) -> Outcome:
        def append(client: paramiko.SFTPClient) -> None:
            done = client.stat(remote).st_size
            with client.open(remote, "ab") as sink:
                sink.write(local.read_bytes()[done:])

        return self._do(user, append)

    def rename(self, user: str, old: str, new: str) -> Outcome:
        return self._do(user, lambda client: client.posix_rename(old, new))


CLIENTS: Final[dict[str, type[Client]]] = {
    "asyncssh": AsyncSsh,
    "curl": Curl,
    "filezilla": FileZilla,
    "lftp": Lftp,
    "openssh-scp": Scp,
    "openssh-sftp": OpenSsh,
    "paramiko": Paramiko,
    "pscp": Pscp,
    "psftp": Psftp,
    "rclone": Rclone,
    "sshfs": Sshfs,
}
