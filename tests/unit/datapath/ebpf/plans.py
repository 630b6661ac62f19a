"""Plans for the tests of the eBPF datapaths' maps."""

from l4lb.model import BackendPlan, Endpoint, Key, Nat, Plan, Protocol, ServicePlan, Table

VIP, VIP6 = Endpoint.parse("10.1.0.100:80"), Endpoint.parse("[2001:db8:1::100]:80")
ONE, TWO = Endpoint.parse("10.2.0.11:80"), Endpoint.parse("10.2.0.12:80")
SIX = Endpoint.parse("[2001:db8:2::11]:80")
CLIENT, CLIENT6 = Endpoint.parse("10.1.0.10:40000"), Endpoint.parse("[2001:db8:1::10]:40000")
SNAT, OTHER_SNAT = Endpoint.parse("10.2.0.1:1").ip, Endpoint.parse("10.2.0.2:1").ip


def service(*backends, vip=VIP, name="web", selection=None, **settings):
    """A service whose backends are addresses or plans of backends, all of them used in turn."""
    plans = tuple(
        backend if isinstance(backend, BackendPlan) else BackendPlan(backend) for backend in backends
    )
    if selection is None:
        selection = Table(Key.TURN, tuple(range(len(plans))))
    settings.setdefault("protocol", Protocol.TCP)
    return ServicePlan(name=name, address=vip, selection=selection, backends=plans, **settings)


def full(*backends, snat=SNAT, **settings):
    """A service with full NAT."""
    plans = [BackendPlan(backend, snat=snat) for backend in backends]
    return service(*plans, nat=Nat.FULL, **settings)


def plan(*services, **settings):
    return Plan(services, **settings)
