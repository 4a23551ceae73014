"""The resolver as a process: claims questions from the core, asks the network, answers.

Promises: several questions at once, so that a domain that does not answer keeps no other waiting. After its
start the process reads no file, and can do nothing but talk to the core and send packets; it holds no key and
sees no message. Where the kernel can tell, it connects by TCP to the port of the configured resolvers only.
Leaves out: what is asked, and trying again: the core says.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import Final

import structlog

from gateway.config import Config
from gateway.config.addresses import server_address
from gateway.errors import ConfigurationError, Disconnected, Refusal, WireError
from gateway.process import service
from gateway.process.sandbox import MIB, UNLIMITED, SandboxLimits, enter_sandbox, file_limit
from gateway.resolver import spf
from gateway.resolver.dns import Dns
from gateway.wire.channel import AsyncChannel
from gateway.wire.messages import ClaimQuestion, Question, QuestionAnswer
from gateway.wire.messages.resolver import DOMAIN, TEXT, TEXTS

AT_ONCE: Final = 16
RECONNECT_SECONDS: Final = 1.0
MEMORY: Final = 256 * MIB
LOG_SIZE: Final = 64 * MIB
CALLS: Final = frozenset({"socket", "connect", "bind", "socketpair"})

log = structlog.get_logger("resolver")


def run(config: Config) -> None:
    """Answer questions until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: `[resolver] addresses` names none, or none that is one.
        SandboxError: a layer that the kernel offers could not be set.
    """
    addresses = config.resolver.addresses
    if not addresses:
        raise ConfigurationError(
            f"{config.source}: key resolver.addresses: expected DNS resolvers to ask, found none"
        )
    servers = [server_address(address) for address in addresses]
    service.configure_logging(config, "resolver")
    service.forbid_core_dumps()
    asyncio.run(
        _serve(config, Dns(addresses, config.resolver.timeout), {port for _, port in servers})
    )


async def _serve(config: Config, network: Dns, ports: set[int]) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # Imported before the sandbox, because nothing can be afterwards: what a first question brings with it.
    with contextlib.suppress(spf.Later):
        await network.lookup("localhost.invalid", "TXT")
    report = enter_sandbox(
        SandboxLimits(MEMORY, UNLIMITED, file_limit(LOG_SIZE), 64 + 4 * AT_ONCE),
        None,
        readable=(),
        calls=CALLS,
        tcp_ports=sorted(ports),
    )
    if report.missing:
        log.warning("sandbox incomplete", missing=report.missing)
    path = config.socket("resolver")
    workers = [loop.create_task(_work(path, network)) for _ in range(AT_ONCE)]
    alive = loop.create_task(_watchdog())
    service.ready()
    await stop.wait()
    log.info("resolver stops")
    service.notify("STOPPING=1")
    for task in (*workers, alive):
        task.cancel()
    await asyncio.gather(*workers, alive, return_exceptions=True)


async def _watchdog() -> None:
    interval = service.watchdog_interval()
    while interval is not None:
        service.notify("WATCHDOG=1")
        await asyncio.sleep(interval)


async def _work(path: Path, network: Dns) -> None:
    """Answer one question at a time, connecting anew as often as the core goes away."""
    while True:
        channel: AsyncChannel | None = None
        try:
            channel = await AsyncChannel.connect(path)
            asked, _ = await channel.call(ClaimQuestion())
            while True:
                if isinstance(asked, Question):
                    asked, _ = await channel.call(await _answer(asked, network))
                else:
                    asked, _ = await channel.call(ClaimQuestion())
        except (Disconnected, Refusal, WireError):
            await asyncio.sleep(RECONNECT_SECONDS)
        finally:
            if channel is not None:
                channel.close()


async def _answer(question: Question, network: Dns) -> QuestionAnswer:
    number = question.question_id
    try:
        if question.kind == "SPF":
            result, domain = await spf.check(
                question.address, question.name, question.helo, network.lookup
            )
            return QuestionAnswer(
                number, later=result == "temperror", spf=result, domain=domain[:DOMAIN]
            )
        texts = await network.lookup(question.name, "TXT")
    except spf.Later:
        return QuestionAnswer(number, later=True)
    except Exception as error:  # noqa: BLE001  answers come from strangers; no other question may suffer
        log.error("question failed", kind=question.kind, error=type(error).__name__)
        return QuestionAnswer(number, later=True)
    # What is longer is no key and no policy that anybody publishes.
    return QuestionAnswer(number, texts=[text for text in texts if len(text) <= TEXT][:TEXTS])
