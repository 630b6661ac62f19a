from benchmark.lab.cables import backends


def test_backends_are_all_different_and_in_their_network():
    addresses = backends(1_000)
    assert (addresses[0], addresses[-1], len(set(addresses))) == ("10.5.0.1", "10.5.3.232", 1_000)
