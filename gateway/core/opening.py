"""Opening a core: store, rules and root key, as the configuration names them.

Promises: nothing is made here; what is missing is refused in one line. Leaves out: serving (`main`), and the
command line's own use of an open core.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from gateway.config import Config
from gateway.core.core import Core, utc_now
from gateway.core.keys import root
from gateway.errors import ConfigurationError
from retention_rules.errors import RetentionError
from retention_rules.parser import load_rulebook
from vault.store import Store


def open_core(config: Config, clock: Callable[[], datetime] = utc_now) -> Core:
    """Open everything the configuration names.

    Raises:
        ConfigurationError: the rule packs can't be used.
        VaultError: store or root key can't.
    """
    try:
        rules = load_rulebook(
            config.retention.packs,
            config.resolve(config.retention.directory) if config.retention.directory else None,
        )
    except RetentionError as error:
        raise ConfigurationError(str(error)) from error
    if unknown := sorted(set(config.access.restricted) - set(rules.record_classes)):
        raise ConfigurationError(
            f"{config.source}: key access.restricted: expected classes that the rules know,"
            f" found {', '.join(unknown)}"
        )
    present, new = root.load(config)
    copies = [copy.name for copy in config.keyring.copies]
    core = Core(config, Store.open(config.store_path, present, copies, new), rules, clock)
    if new is not None and core.store.custody.keyrings.root.id == new.id:
        # A crash came between the change of the root key and the change of its file.
        root.adopt_next(core)
    return core
