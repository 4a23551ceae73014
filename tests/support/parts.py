"""A sink for what is taken out of a container: kept, as a list."""

from __future__ import annotations


class Parts:
    """`taken`: name and bytes of each part; `name_bytes`: its name as it stood, where that was not UTF-8."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, bytes]] = []
        self.name_bytes: list[bytes] = []

    def add(self, name, chunks, name_bytes=b""):
        content = b"".join(chunks)  # a part that fails midway is not taken
        self.taken.append((name, content))
        self.name_bytes.append(name_bytes)
        return str(len(self.taken))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.taken]
