"""nftables of hosts in the lab: counters and filters of a test."""

import re
from contextlib import contextmanager


@contextmanager
def nft_table(lab, host, text):
    """A host with this nftables table."""
    family, name = re.search(r"table (\w+) (\w+)", text).groups()
    lab.exec(host, "nft", "-f", "-", text=text)
    try:
        yield
    finally:
        lab.exec(host, "nft", "delete", "table", family, name)
