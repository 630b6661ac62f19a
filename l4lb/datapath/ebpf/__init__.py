"""The eBPF datapaths, ``tc`` and ``xdp``: the daemon's side of the programs in ``datapath/bpf``."""
