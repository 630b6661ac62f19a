"""The example tls.toml, with nginx, openssl s_client and curl."""

import re
import subprocess
from contextlib import ExitStack

import pytest

from tests.lab.example import NAMES, Server, balanced, example, need, wait_state
from tests.lab.services import BACKENDS, CLIENT, VIP

pytestmark = [pytest.mark.lab, pytest.mark.datapath("auto", "raw")]

NGINX = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory};
    proxy_temp_path {directory};
    fastcgi_temp_path {directory};
    uwsgi_temp_path {directory};
    scgi_temp_path {directory};
    server {{
        listen {address}:443 ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {certificate};
        ssl_protocols TLSv1.2 TLSv1.3;
        return 200 "{name}\\n";
    }}
}}
"""
"""Each makes ticket keys of its own when it starts, as nginx does unless told otherwise."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Self-signed, for the VIP, with its key."""
    need("openssl")
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    names = ["-subj", "/CN=l4lb", "-addext", f"subjectAltName=IP:{VIP}"]
    command = ["openssl", "req", "-x509", *options, *names, "-keyout", path, "-out", f"{path}.crt"]
    subprocess.run(command, capture_output=True, check=True)
    path.write_text(path.read_text() + path.with_name(f"{path.name}.crt").read_text())
    return path


@pytest.fixture(scope="module")
def servers(lab, certificate, tmp_path_factory):
    """nginx with TLS on each host, by host."""
    with ExitStack() as stack:
        servers = {}
        for name in NAMES:
            directory = tmp_path_factory.mktemp(name)
            config = directory / "nginx.conf"
            address = BACKENDS[4][name]
            config.write_text(
                NGINX.format(directory=directory, address=address, certificate=certificate, name=name)
            )
            server = Server(lab, name, "nginx", "-p", directory, "-c", config, log=directory / "log")
            servers[name] = stack.enter_context(server)
        yield servers


@pytest.fixture(scope="module")
def daemon(lab, servers):
    with balanced(lab, example("tls"), "tls") as daemon:
        yield daemon


@pytest.fixture
def session(tmp_path):
    """Where a client of one test keeps what it got from a server."""
    return tmp_path / "session"


def visit(lab, session, version="1.3"):
    """Ask for a page as one who may have been here before: whether the session was resumed, and the
    server's name."""
    known = ["-sess_in", session] if session.exists() else []
    command = ["openssl", "s_client", "-connect", f"{VIP}:443", f"-tls{version.replace('.', '_')}"]
    command += ["-ign_eof", "-sess_out", session, *known]
    said = lab.exec("client", *command, text="GET / HTTP/1.0\r\n\r\n").stdout
    kinds = {kind for kind in ("New", "Reused") if f"{kind}, TLSv{version}" in said}
    name = re.search(r"^web\d", said, re.MULTILINE)
    assert name, said
    assert len(kinds) == 1, said
    return kinds == {"Reused"}, name[0]


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_client_resumes_its_session_each_time(lab, daemon, session, version):
    resumed, server = visit(lab, session, version)
    assert not resumed
    assert server in NAMES
    assert [visit(lab, session, version) for _ in range(5)] == [(True, server)] * 5


def test_reconnecting_resumes_the_session(lab, daemon):
    command = ("openssl", "s_client", "-connect", f"{VIP}:443", "-tls1_2", "-reconnect")
    said = lab.exec("client", *command).stdout
    assert (said.count("New, TLSv1.2"), said.count("Reused, TLSv1.2")) == (1, 5)


def test_without_affinity_not_every_session_is_resumed(lab, daemon, session):
    """What the file is for, and that the tests above can fail."""
    text = example("tls").replace('affinity = "client"\n', "")
    assert text != example("tls")
    daemon.configure(text)
    daemon.cli("reload")
    try:
        visits = [visit(lab, session) for _ in range(6)]
    finally:
        daemon.configure(example("tls"))
        daemon.cli("reload")
    assert {server for _, server in visits} == set(NAMES)
    assert not all(resumed for resumed, _ in visits[1:])


def test_other_clients_get_other_servers(lab, daemon, certificate):
    """With the certificate of the servers: TLS passes through."""
    options = ("--cacert", str(certificate), "--interface")
    sources = [CLIENT, "10.1.0.11", "10.1.0.12", "10.1.0.13"]
    rounds = [[lab.curl(f"https://{VIP}/", *options, source) for source in sources] for _ in range(2)]
    assert len(set(rounds[0])) > 1
    assert rounds[0] == rounds[1]


def test_the_clients_of_a_server_that_stops_begin_anew_elsewhere(lab, daemon, servers, session):
    _, former = visit(lab, session)
    with servers[former].stopped():
        wait_state(daemon, former, "down", "tls")
        resumed, server = visit(lab, session)
        assert not resumed
        assert server != former
        assert visit(lab, session) == (True, server)
    wait_state(daemon, former, "up", "tls")
