"""The table: which scripts run against which server, with what, and which of their probes stand apart and why."""

import re
import subprocess
from dataclasses import dataclass


def openssl(directory, *arguments):
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, stderr=subprocess.DEVNULL)


def self_signed(directory, name, *key):
    openssl(directory, "req", "-x509", "-nodes", *key, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2",
            "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")


RSA = ("-newkey", "rsa:2048")
CURVES = {"p256": "prime256v1", "p384": "secp384r1", "p521": "secp521r1"}


def curve(name):
    return ("-newkey", "ec", "-pkeyopt", f"ec_paramgen_curve:{CURVES[name]}")


def rsa(directory, _program):
    self_signed(directory, "server", *RSA)
    return '[tls]\ncert = "server.pem"\nkey = "server.key"\n'


def dev(directory, program):
    subprocess.run([program, "cert", "dev", str(directory)], check=True, stdout=subprocess.DEVNULL)
    return '[tls]\ncert = "server.pem"\nkey = "server.key"\n'


def ed25519(directory, _program):
    self_signed(directory, "server", "-newkey", "ed25519")
    return '[tls]\ncert = "server.pem"\nkey = "server.key"\n'


def ecdsa(directory, _program):
    for name in CURVES:
        self_signed(directory, name, *curve(name))
    return '[tls]\ncert = "p256.pem"\nkey = "p256.key"\n' + "".join(
        f'[[tls.certificates]]\ncert = "{name}.pem"\nkey = "{name}.key"\n' for name in ("p384", "p521"))


def clients(directory, _program):
    """Asks for certificates; those of the clients lie beside its own."""
    self_signed(directory, "server", *RSA)
    openssl(directory, "req", "-x509", "-nodes", *RSA, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
            "-subj", "/CN=clients")
    (directory / "client.ext").write_text("extendedKeyUsage=clientAuth\nsubjectAltName=DNS:client.example\n")
    for name, key in {"rsa": RSA, "p256": curve("p256"), "p384": curve("p384"), "p521": curve("p521"),
                      "ed25519": ("-newkey", "ed25519")}.items():
        openssl(directory, "req", "-nodes", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr",
                "-subj", "/CN=client")
        openssl(directory, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                "-CAcreateserial", "-days", "2", "-extfile", "client.ext", "-out", f"{name}.pem")
    return '[tls]\ncert = "server.pem"\nkey = "server.key"\nclient_ca = "ca.pem"\nclient_auth = "optional"\n'


SERVERS = {"rsa": rsa, "dev": dev, "ed25519": ed25519, "ecdsa": ecdsa, "clients": clients}


@dataclass(frozen=True)
class Apart:
    """Probes (a pattern) that fail in this way (a pattern), and why that is no fault of the server's."""

    why: str
    probe: str
    error: str
    always: bool = True

    def covers(self, probe, error):
        return bool(re.search(self.probe, probe) and re.search(self.error, error))


@dataclass(frozen=True)
class Case:
    script: str
    server: str
    arguments: tuple
    apart: tuple
    as_uringest: bool


def got(alert):
    return rf"\(fatal, {alert}\)|received \"{alert}\""


def alerts(expected, received):
    return f'description "{expected}" does not match received "{received}"'


# Why probes stand apart. docs/tls-conformance.md has more to say on each.
VERSION = Apart("needs TLS 1.2", ".", got("protocol_version"))
SEVERAL_RECORDS = "needs TLS 1.2; the version of a hello in several records is not looked at"
NO_GROUP = ("key exchange that is not offered", "x448|secp521r1|ffdhe|brainpool",
            got("(handshake_failure|decode_error)"))
GROUP = Apart(*NO_GROUP)
CCM = Apart("AES-CCM is not offered", "CCM", got("handshake_failure"))
EMPTY_SHARE = Apart("a length out of range is decode_error", "empty x25519 key share",
                    alerts("illegal_parameter", "decode_error"))
FINISHED = Apart("a Finished of another length is a wrong one", "padding|truncation|empty|left padding",
                 alerts("decode_error", "decrypt_error"))
LARGE = Apart("a ClientHello beyond 64 KiB", "32715|32744|3275|32760|max|16383", got("decode_error"))
SIGNATURE = Apart("a signature by another kind of key is a wrong one", "signature is refused",
                  alerts("illegal_parameter", "decrypt_error"))
HTTP = Apart("the server has no such page", "post-handshake KeyUpdate msg from server", "ApplicationData")

SIGALGS = ("ecdsa_secp384r1_sha384 ecdsa_secp256r1_sha256 ecdsa_secp521r1_sha512 ed25519 rsa_pss_rsae_sha512 "
           "rsa_pss_rsae_sha384 rsa_pss_rsae_sha256 rsa_pkcs1_sha512 rsa_pkcs1_sha384 rsa_pkcs1_sha256 "
           "mldsa44 mldsa65 mldsa87")
GROUPS = "x25519mlkem768,x25519,secp256r1,secp384r1"
ALL = ("-n", "0")


def tls13(name, *arguments, server="rsa", apart=(), as_uringest=False):
    return Case(f"test-tls13-{name}", server, arguments, apart, as_uringest)


def older(name, *arguments, apart=()):
    """A script for older versions: what remains of it is how hostile and old first messages are refused."""
    return Case(f"test-{name}", "rsa", arguments, (VERSION, *apart), False)


def with_client(name, key, apart=()):
    files = ("-k", "{server}/" + key + ".key", "-c", "{server}/" + key + ".pem")
    return tls13(name, "-s", SIGALGS, *files, server="clients", apart=apart)


CASES = [
    tls13("0rtt-garbage", apart=(VERSION,)),
    tls13("ccs"),
    tls13("certificate-request", "-s", SIGALGS, "-E", "key_share:SH supported_versions:SH 47:CR", server="clients"),
    with_client("certificate-verify", "rsa"),
    *(with_client("ecdsa-in-certificate-verify", name, (SIGNATURE,)) for name in CURVES),
    with_client("eddsa-in-certificate-verify", "ed25519", (SIGNATURE,)),
    tls13("connection-abort", apart=(
        Apart("tickets are for who can use them", "After NewSessionTicket", "ApplicationData"),)),
    tls13("conversation"),
    tls13("conversation", server="dev"),
    tls13("conversation", server="ed25519"),
    tls13("count-tickets"),
    tls13("crfg-curves", apart=(EMPTY_SHARE, GROUP)),
    tls13("dhe-shared-secret-padding", apart=(Apart(*NO_GROUP, always=False),)),
    tls13("ecdhe-curves", apart=(GROUP,)),
    tls13("ecdsa-support", server="ecdsa", apart=(GROUP,)),
    tls13("eddsa", server="ed25519", apart=(Apart("Ed448 is not offered", "ed448", got("handshake_failure")),)),
    tls13("empty-alert", apart=(
        Apart("rustls: unexpected_message would be right", "using handshake keys",
              alerts("unexpected_message", "decode_error")),)),
    tls13("finished", *ALL, apart=(
        FINISHED,
        Apart("rustls: no alert over a message beyond 64 KiB", "pad_right (131072|196608)", "closure", False),
    )),
    tls13("finished-plaintext"),
    tls13("hrr"),
    tls13("invalid-ciphers", *ALL),
    tls13("keyshare-omitted"),
    tls13("keyupdate", *ALL, as_uringest=True, apart=(
        Apart("one answer to several requests", "^multiple KeyUpdate messages", "ApplicationData", always=False),)),
    tls13("keyupdate-from-server", apart=(HTTP,)),
    tls13("large-number-of-extensions", *(f"--exc={number}" for number in (9, 11, 12, 23, 27, 34, 13172)), apart=(
        Apart("known extensions among them that do not parse", "ids in range", got("decode_error"), False),)),
    tls13("legacy-version"),
    tls13("mlkem", "--kems", "x25519mlkem768"),
    tls13("multiple-ccs-messages", "--ccs", "3", apart=(
        Apart("two are put up with", "second CCS before client finished", "ApplicationData"),)),
    tls13("no-unknown-groups", "--groups", GROUPS),
    tls13("nociphers"),
    tls13("obsolete-curves", "--relaxed", "-a", "handshake_failure", apart=(
        GROUP,
        Apart("a share of a group that is not known is passed over", "inconsistent extensions", "hello_retry_request"),
    )),
    tls13("pkcs-signature"),
    tls13("record-layer-limits", *ALL, apart=(FINISHED,)),
    tls13("record-padding"),
    tls13("rsa-signatures"),
    tls13("serverhello-random", apart=(GROUP,)),
    tls13("session-resumption", "--client-pke", "psk_dhe_ke", apart=(VERSION,)),
    tls13("shuffled-extentions", apart=(
        Apart("a second ClientHello is not compared with the first", "HRR reversed order", "server_hello"),
        Apart("known extensions among them that do not parse", "HRR reversed order", got("decode_error")),
    )),
    tls13("signature-algorithms", *ALL, apart=(LARGE,)),
    tls13("symetric-ciphers", *ALL, apart=(CCM,)),
    tls13("unencrypted-alert"),
    tls13("unrecognised-groups", apart=(GROUP,)),
    tls13("version-negotiation", *ALL, apart=(VERSION,)),
    tls13("zero-content-type", as_uringest=True),
    tls13("zero-length-data", as_uringest=True),
    older("alpn-negotiation", apart=(
        Apart(SEVERAL_RECORDS, "16269 byte", got("handshake_failure")),)),
    older("cve-2004-0079"),
    older("downgrade-protection"),
    older("export-ciphers-rejected", *ALL),
    older("extensions", *ALL, apart=(
        LARGE, Apart(SEVERAL_RECORDS, "extensions", got("handshake_failure")))),
    older("hello-request-by-client"),
    older("invalid-cipher-suites", *ALL),
    older("invalid-client-hello", *ALL),
    older("invalid-client-hello-w-record-overflow", *ALL),
    older("invalid-version"),
    older("message-skipping"),
    older("signature-algorithms", *ALL, apart=(LARGE,)),
    Case("test-sslv2-force-cipher", "rsa", (), (), False),
    older("sslv2hello-protocol", apart=(
        Apart("an SSL 2.0 hello is no TLS", "SSLv2 Client Hello", got("unexpected_message")),)),
    older("truncating-of-client-hello", *ALL),
    older("version-numbers"),
]
