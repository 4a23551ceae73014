"""Rounds of kills under mail: what was sent is there once, taken apart once, and answered once.

`python benchmarks/mail_kills.py [--rounds N] [--messages N] [--seed N] [--mailbox]`: the gateway over
loopback with a DNS and a relay; four senders that try again until they hear 250, as mail servers do; and in
each round SIGKILL to one or more of core, door, inspectors, resolver and courier. With `--mailbox`: a
dovecot, and kills of mailbox fetcher and core. Prints what was counted and each fault; exits 1 if there is
one. A round takes about three seconds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.mail_kills import fetching, receiving


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=30, help="while mail comes; half as many while it is answered"
    )
    parser.add_argument("--messages", type=int, default=0, help="0: four a round")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mailbox", action="store_true")
    wanted = parser.parse_args()
    if wanted.mailbox:
        with fetching(wanted.seed) as mailbox:
            mailbox.run(wanted.rounds)
            tally = mailbox.settle()
    else:
        with receiving(wanted.seed) as mail:
            mail.run(wanted.rounds, wanted.messages or 4 * wanted.rounds)
            tally = mail.settle()
    print(f"seed {wanted.seed}")
    print(tally)
    for fault in tally.faults:
        print(fault)
    return int(bool(tally.faults))


if __name__ == "__main__":
    sys.exit(main())
