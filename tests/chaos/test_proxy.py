"""The proxy of the storm, between a client and a server that sends back what it gets."""

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.chaos.proxy import Damage, Harm, Loop, Proxy

TIMEOUT_S = 20.0


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(65536):
            self.request.sendall(data)


class _EchoServer(socketserver.ThreadingTCPServer):
    # A connection that is reset is no news here.
    def handle_error(self, request: object, client_address: object) -> None: ...


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that sends back what it gets."""
    with _EchoServer(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield "127.0.0.1", server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(echo: tuple[str, int]) -> Iterator[Proxy]:
    """A proxy to it."""
    with Loop() as loop:
        proxy = Proxy(loop, *echo)
        yield proxy
        proxy.close()


@contextmanager
def connected(proxy: Proxy) -> Iterator[socket.socket]:
    """A connection through the proxy."""
    host, _, port = proxy.address.rpartition(":")
    with socket.create_connection((host, int(port)), TIMEOUT_S) as connection:
        yield connection


def received(connection: socket.socket, count: int) -> bytes:
    """The next bytes, fewer if the connection ends before."""
    data = b""
    try:
        while len(data) < count and (new := connection.recv(count - len(data))):
            data += new
    except ConnectionResetError:
        pass
    return data


def test_what_is_not_harmed_arrives_as_it_was_sent(proxy: Proxy) -> None:
    sent = bytes(range(256)) * 4000
    with connected(proxy) as connection:
        thread = threading.Thread(target=connection.sendall, args=(sent,))
        thread.start()
        assert received(connection, len(sent)) == sent
        thread.join()


def test_cut_connections_end_and_new_ones_work(proxy: Proxy) -> None:
    with connected(proxy) as connection:
        connection.sendall(b"one")
        assert received(connection, 3) == b"one"
        proxy.cut()
        assert received(connection, 1) == b""
    with connected(proxy) as connection:
        connection.sendall(b"two")
        assert received(connection, 3) == b"two"
    assert proxy.struck[Harm.CUT] == 1


@pytest.mark.parametrize(
    ("harm", "echoed"),
    [
        (Harm.CUT, b"first"),
        (Harm.TRUNCATE, b"firstabc"),
        (Harm.DROP, b"first"),
        (Harm.DUPLICATE, b"firstabcdefabcdef"),
    ],
)
def test_a_harmed_segment_ends_its_connection(proxy: Proxy, harm: Harm, echoed: bytes) -> None:
    with connected(proxy) as connection:
        proxy.damage(Damage(harm=harm, is_up=False, after_bytes=5))
        connection.sendall(b"first")
        begin = received(connection, 5)
        connection.sendall(b"abcdef")
        assert begin + received(connection, 100) == echoed
    assert proxy.struck == {harm: 1}


def test_a_delayed_segment_arrives(proxy: Proxy) -> None:
    proxy.damage(Damage(harm=Harm.DELAY, is_up=False, delay_s=0.1))
    with connected(proxy) as connection:
        connection.sendall(b"late")
        assert received(connection, 4) == b"late"
    assert proxy.struck == {Harm.DELAY: 1}


def test_damages_of_one_direction_strike_one_after_the_other(proxy: Proxy) -> None:
    proxy.damage(Damage(harm=Harm.DELAY, is_up=True, delay_s=0.01))
    proxy.damage(Damage(harm=Harm.CUT, is_up=True))
    with connected(proxy) as connection:
        connection.sendall(b"one")
        assert received(connection, 3) == b"one"
        connection.sendall(b"two")
        assert received(connection, 3) == b""


def test_a_healed_proxy_harms_nothing(proxy: Proxy) -> None:
    proxy.damage(Damage(harm=Harm.DROP, is_up=True))
    proxy.heal()
    with connected(proxy) as connection:
        connection.sendall(b"fine")
        assert received(connection, 4) == b"fine"
    assert not proxy.struck


def test_a_server_that_is_away_ends_the_connection(echo: tuple[str, int]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Loop() as loop:
        proxy = Proxy(loop, "127.0.0.1", port)
        with connected(proxy) as connection:
            assert received(connection, 1) == b""
        proxy.close()
