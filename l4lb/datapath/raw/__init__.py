"""The ``raw`` datapath: packet sockets in Python, in a process of its own, behind a shield."""
