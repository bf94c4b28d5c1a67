"""The admin port with real certificates: who shows none, or another authority's, does not get as far as a request."""

import datetime
import socket
import ssl

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fastapi import FastAPI
from typer.testing import CliRunner

from clickmill.command.app import app
from clickmill.errors import UsageError
from monitoring.drills.processes import free_port
from monitoring.release import Inbox, Tls, listening
from monitoring.release.receiver import alerts_router
from tests.monitoring.release.test_inbox import body, told

TOKEN = {"authorization": "Bearer secret"}


class Authority:
    """Signs certificates into a folder."""

    def __init__(self, folder, name):
        self.folder, self.name = folder, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.cert = self._signed(name, self.key, self.key, authority=True)
        (folder / f"{name}.pem").write_bytes(self.cert.public_bytes(serialization.Encoding.PEM))

    @property
    def path(self):
        return self.folder / f"{self.name}.pem"

    def issue(self, name):
        """Paths of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        cert, secret = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        cert.write_bytes(self._signed(name, key, self.key).public_bytes(serialization.Encoding.PEM))
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return cert, secret

    def _signed(self, name, key, by, authority=False):
        def called(who):
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, who)])

        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(called(name))
            .issuer_name(called(self.name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        )
        return builder.sign(by, hashes.SHA256())


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"), "ours")


def ask(port, authority, cert=None, headers=TOKEN):
    """Alertmanager's webhook over https; `cert` as (certificate, key)."""
    context = ssl.create_default_context(cafile=str(authority.path))
    if cert:
        context.load_cert_chain(*map(str, cert))
    with httpx.Client(verify=context, trust_env=False, timeout=30) as client:
        return client.post(
            f"https://localhost:{port}/alerts", content=body(told(bundle="b" * 12)), headers=headers
        )


def test_only_with_a_certificate_of_the_authority_and_the_token_an_alert_is_taken(ours, tmp_path):
    others = Authority(tmp_path, "others")
    inbox, port = Inbox(tmp_path / "alerts.json"), free_port()
    receiver = FastAPI()
    receiver.include_router(alerts_router(inbox.take, "secret"))
    tls = Tls(*ours.issue("localhost"), client_ca=ours.path)
    with listening(receiver, "localhost", port, tls):
        for cert in (None, others.issue("alertmanager")):
            with pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)):
                ask(port, ours, cert)
        with pytest.raises(httpx.RemoteProtocolError), httpx.Client(trust_env=False) as plain:
            plain.post(f"http://localhost:{port}/alerts", content=body(told()), headers=TOKEN)
        assert inbox.firing == ()
        mine = ours.issue("alertmanager")
        assert ask(port, ours, mine, headers={}).status_code == 401
        assert ask(port, ours, mine).json() == {"changed": 1}
    assert [alert.bundle for alert in inbox.firing] == ["b" * 12]


def test_without_a_client_authority_it_is_https_for_everybody(ours, tmp_path):
    inbox, port = Inbox(tmp_path / "alerts.json"), free_port()
    receiver = FastAPI()
    receiver.include_router(alerts_router(inbox.take, "secret"))
    with listening(receiver, "localhost", port, Tls(*ours.issue("localhost"))):
        assert ask(port, ours).json() == {"changed": 1}


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)  # uvicorn leaves by SystemExit
def test_a_taken_port_is_said():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with (
            pytest.raises(UsageError, match=f"port {port} is taken; choose another"),
            listening(FastAPI(), "127.0.0.1", port),
        ):
            pass


def test_files_that_cannot_be_used_are_named(ours, tmp_path):
    cert, _ = ours.issue("one")
    _, other_key = ours.issue("two")
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("no certificate")
    with pytest.raises(UsageError, match=r"gone\.pem: no such file"):
        Tls(tmp_path / "gone.pem", other_key).check()
    with pytest.raises(UsageError, match=r"are no certificate and its key in PEM form .*MISMATCH"):
        Tls(cert, other_key).check()
    with pytest.raises(UsageError, match=r"nothing\.pem: no certificate in PEM form"):
        Tls(cert, ours.folder / "one.key", nothing).check()


def test_half_of_the_options_is_wrong_usage(ours, tmp_path):
    cert, _ = ours.issue("three")
    for words in (["--tls-cert", str(cert)], ["--client-ca", str(ours.path)]):
        found = CliRunner().invoke(app, ["release", "run", str(tmp_path), *words])
        assert found.exit_code == 2
        assert "--tls-cert and --tls-key go together, and --client-ca needs both" in " ".join(
            found.output.split()
        )
