"""The programs on the interfaces of a network namespace, as iproute2 shows them."""

import json


def filters(run, interfaces):
    """Interface -> name of the program that is a filter at its ingress. ``run``: command -> its output."""
    found = {}
    for interface in interfaces:
        shown = run("tc", "-j", "filter", "show", "dev", interface, "ingress")
        for each in json.loads(shown or "[]"):
            if "bpf_name" in each.get("options", {}):
                found[interface] = each["options"]["bpf_name"].partition(":")[0]
    return found


def with_xdp(run):
    """The interfaces that have an XDP program."""
    return {link["ifname"] for link in json.loads(run("ip", "-j", "link", "show")) if "xdp" in link}
