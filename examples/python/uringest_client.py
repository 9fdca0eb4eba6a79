#!/usr/bin/env python3
"""A client of the uringest protocol, version 1, from docs/protocol.md alone: standard library only.

    uringest_client.py pub HOST:PORT TOPIC < lines       publishes each line of standard input
    uringest_client.py sub HOST:PORT TOPIC COUNT         prints COUNT records from the oldest kept

uringest+tls://HOST:PORT is spoken to by TLS; SSL_CERT_FILE names an authority that the system does not know.

As a module: Connection, with Connection.open for producing and Connection.subscribe for consuming. It is single-threaded
and meant to be read; the checksum in Python limits it to a few MB/s. Numbers in comments are the document's sections.
"""

import collections
import contextlib
import random
import select
import socket
import ssl
import sys
import time

from uringest_wire import (
    ACK, BODIES, CLOSE, COMMIT, COMMITTED, CREDIT, DELIVER, DRAIN, ERROR, GAP, HELLO, NACK, OPEN, OPENED, PING, PONG, PUBLISH,
    RELEASE, RETRYABLE, SUBSCRIBE, SUBSCRIBED, UNAVAILABLE, UNSUBSCRIBE, WELCOME, ProtocolError, check_body, decode,
    decode_batch, encode, encode_batch, frame, parse_header, readdressed)


# ---- 4: the connection

class Refused(Exception):
    """The server said no: `code` is a number of section 9."""

    def __init__(self, refusal):
        super().__init__(f"code {refusal['code']}: {refusal['detail']}" if refusal['detail'] else f"code {refusal['code']}")
        self.code = refusal['code']
        self.retry_after = refusal['retry_after_us'] / 1e6


def connect(address, timeout):
    """A socket to HOST:PORT, by TLS where the address says so."""
    scheme, _, rest = address.rpartition('://')
    if scheme not in ('', 'uringest', 'uringest+tls'):
        raise ValueError(f'{address}: the scheme is neither uringest:// nor uringest+tls://')
    host, _, port = rest.rpartition(':')
    host = host.strip('[]')
    plain = socket.create_connection((host, int(port)), timeout=timeout)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if scheme != 'uringest+tls':
        return plain
    context = ssl.create_default_context()  # the server's chain and names are checked: 1, TLS 3
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(['uringest/1'])
    secured = context.wrap_socket(plain, server_hostname=host)
    if secured.selected_alpn_protocol() != 'uringest/1':
        raise ProtocolError('wrong_alpn', 'the server speaks TLS for another protocol')  # TLS 2
    return secured


class Connection:
    """One connection. Everything that waits reads and writes meanwhile, for all channels and subscriptions."""

    UNANSWERED_MAX = 256  # 4, Reading

    def __init__(self, address, token='', timeout=10):
        self.timeout = timeout
        self.socket = connect(address, timeout)
        self.socket.setblocking(False)
        self.received, self.unsent = bytearray(), bytearray()
        self.channels, self.subscriptions = {}, {}
        self.answers, self.requests, self.draining = {}, 0, False
        self.welcome = None
        self.frame_bytes_max, self.pinged = 131072, time.monotonic()
        self.send(frame(HELLO, encode(HELLO, client='example.py/1', version_min=1, version_max=1, token=token)))
        self.wait(lambda: self.welcome)
        self.frame_bytes_max = self.welcome['frame_bytes_max']

    def send(self, data):
        """Queues a frame; it goes out with the next step."""
        self.unsent += data

    def step(self, timeout):
        """Moves bytes both ways, waiting at most so many seconds for the socket, and acts on what came."""
        if self.welcome and time.monotonic() - self.pinged > self.welcome['idle_timeout_ms'] / 3000:
            self.pinged = time.monotonic()
            self.send(frame(PING))
        wanted = [self.socket] if self.unsent else []
        readable, writable, _ = select.select([self.socket], wanted, [], timeout)
        if writable:
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                del self.unsent[:self.socket.send(self.unsent)]
        if readable:
            try:
                data = self.socket.recv(1 << 18)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return  # not a whole record, or one that was no data (TLS 5, 8)
            if not data:
                raise ConnectionError('the server closed the connection')
            self.received += data
            self._frames()

    def wait(self, condition, timeout=None):
        """Steps until the condition holds."""
        end = time.monotonic() + (self.timeout if timeout is None else timeout)
        while not condition():
            left = end - time.monotonic()
            if left < 0:
                raise TimeoutError('no answer in time')
            self.step(min(left, 0.05))

    def _frames(self):
        at = 0
        while len(self.received) - at >= 64:
            head = bytes(self.received[at:at + 64])
            header = parse_header(head, self.frame_bytes_max)
            end = at + 64 + header.body_bytes
            if len(self.received) < end:
                break
            body = bytes(self.received[at + 64:end])
            check_body(header, head, body)
            at = end
            self._act(header, body)
        del self.received[:at]

    def _act(self, header, body):
        kind = header.kind
        values = decode(kind, body) if kind in BODIES else {}
        if kind in (OPENED, SUBSCRIBED, COMMITTED) or kind == ERROR and header.sequence:
            self._answered(header, values)
        elif kind == WELCOME:
            self.welcome = values
        elif kind in (ACK, NACK) or kind == CREDIT:
            if channel := self.channels.get(header.channel):
                channel.told(header, values)
        elif kind in (DELIVER, GAP, UNSUBSCRIBE) or kind == ERROR and header.channel:
            if subscription := self.subscriptions.get(header.channel):
                subscription.told(header, body, values)
        elif kind == PING:
            self.send(frame(PONG, sequence=header.sequence))
        elif kind == DRAIN:
            self.draining = True
        elif kind in (CLOSE, ERROR):
            raise Refused(values)
        elif kind != PONG:
            raise ProtocolError('unexpected_kind', str(kind))

    def _answered(self, header, values):
        make = self.answers.get(header.sequence)
        # Channels and subscriptions are known before the frames behind their answer are acted on.
        self.answers[header.sequence] = Refused(values) if header.kind == ERROR else make(header, values)

    def request(self, kind, body, make, channel=0):
        """Asks, and asks again where the server is too busy; `make` makes the result of the answer."""
        end = time.monotonic() + self.timeout
        while True:
            self.requests += 1
            request = self.requests
            self.answers[request] = make
            self.send(frame(kind, body, sequence=request, channel=channel))
            self.wait(lambda: self.answers[request] is not make)
            answer = self.answers.pop(request)
            if not isinstance(answer, Refused):
                return answer
            if answer.code != UNAVAILABLE or time.monotonic() > end:
                raise answer

    def open(self, topic, partition=0, producer_id=None, ack_every_batches=16, ack_every_us=1000, ack_level=None):
        """A channel to publish on. The same producer id goes on where it was. ack_level: 0 received, 1 written, 2 durable;
        without it the topic's kind decides."""
        producer_id = producer_id or random.getrandbits(63) + 1
        body = encode(OPEN, topic=topic, partition=partition, producer_id=producer_id,
                      ack_every_batches=ack_every_batches, ack_every_us=ack_every_us, ack_level=ack_level)
        return self.request(OPEN, body, lambda header, values: Channel(self, header.channel, producer_id, values))

    def subscribe(self, topic, partition=0, start_at=1, start_value=0, name='', resume=False, credit=1 << 20):
        """The records of a partition; start_at: 0 latest, 1 earliest, 2 offset, 3 time."""
        body = encode(SUBSCRIBE, topic=topic, partition=partition, start_at=start_at, start_value=start_value, name=name,
                      resume=resume, credit=credit)
        return self.request(SUBSCRIBE, body, lambda header, values: Subscription(self, header.channel, name, credit, values))

    def close(self):
        """Waits until the server has acknowledged all it took."""
        try:
            self.send(frame(CLOSE))
            self.wait(lambda: False)
        except (OSError, Refused):
            pass
        if isinstance(self.socket, ssl.SSLSocket):
            with contextlib.suppress(OSError):
                self.socket.unwrap()  # close_notify: TLS 6
        self.socket.close()


# ---- 7: publishing

class Channel:
    """A producer on a partition. Batches are kept until they are answered, and sent again where that helps."""

    def __init__(self, connection, channel, producer_id, opened):
        self.connection, self.channel, self.producer_id, self.opened = connection, channel, producer_id, opened
        self.next_sequence, self.limit, self.sent = opened['next_sequence'], opened['credit'], 0
        self.in_flight, self.again, self.again_at = {}, {}, 0  # frames by sequence: unanswered, and refused for now
        self.refused, self.acked = [], None
        connection.channels[channel] = self

    def told(self, header, values):
        if header.kind == CREDIT:
            self.limit = header.offset
        elif header.kind == ACK:
            self.acked = header
            self.in_flight = {n: data for n, data in self.in_flight.items() if n > header.sequence}
        elif data := self.in_flight.pop(header.sequence, None):
            refused = Refused(values)
            if refused.code in RETRYABLE:
                self.again[header.sequence] = data
                self.again_at = time.monotonic() + refused.retry_after
            else:
                self.refused.append(refused)

    def _fits(self, data):
        in_flight = sum(len(channel.in_flight) for channel in self.connection.channels.values())
        most = self.connection.welcome['inflight_batches_max']
        room = len(self.in_flight) < most and in_flight < self.connection.UNANSWERED_MAX
        return not self.in_flight or room and self.sent + len(data) <= self.limit

    def _push(self, sequence, data, timeout):
        self.connection.wait(lambda: self._fits(data), timeout)
        self.again.pop(sequence, None)
        self.in_flight[sequence] = data
        self.sent += len(data)
        self.connection.send(data)
        self.connection.step(0)

    def _resend(self, timeout):
        """Sends what was refused for now once more, in order, when all behind it is answered too."""
        end = time.monotonic() + timeout
        while self.again:
            self.connection.wait(lambda: not self.in_flight and time.monotonic() >= self.again_at, end - time.monotonic())
            for sequence, data in sorted(self.again.items()):
                self._push(sequence, data, max(0, end - time.monotonic()))
            self.connection.wait(lambda: not self.in_flight or self.again, end - time.monotonic())

    def publish(self, payloads, timeout=10, **columns):
        """Sends a batch when credit allows; returns its sequence. flush() says what became of it."""
        self._resend(timeout)
        sequence, body = self.next_sequence, encode_batch(payloads, **columns)
        self._push(sequence, frame(PUBLISH, body, len(payloads), self.producer_id, sequence, self.channel), timeout)
        self.next_sequence += 1
        return sequence

    def flush(self, timeout=10):
        """Waits until every batch is answered; raises the first refusal that no repetition helps."""
        while self.in_flight or self.again:
            self._resend(timeout)
            self.connection.wait(lambda: not self.in_flight or self.again, timeout)
        if self.refused:
            refused, self.refused = self.refused[0], []
            raise refused

    def reopened(self, connection, topic, partition=0):
        """The producer on another connection, after the loss of its own: what was unanswered is sent again."""
        unanswered = sorted({**self.in_flight, **self.again}.items())
        channel = connection.open(topic, partition, self.producer_id, ack_level=self.opened['ack_level'])
        if self.acked and channel.next_sequence == 1:
            raise ProtocolError('unknown_producer', 'the server has forgotten what it acknowledged')
        channel.again = {sequence: readdressed(data, channel.channel) for sequence, data in unanswered}
        channel.next_sequence, channel.acked = self.next_sequence, self.acked
        return channel

    def release(self):
        self.flush()
        del self.connection.channels[self.channel]
        self.connection.send(frame(RELEASE, channel=self.channel))


# ---- 8: consuming

class Subscription:
    """A partition's records in order, as an iterator; `gaps` has (offset, records, reason) of what will not come."""

    def __init__(self, connection, partition_id, name, credit, subscribed):
        self.connection, self.partition_id, self.name, self.subscribed = connection, partition_id, name, subscribed
        self.next_offset, self.window, self.limit, self.used = subscribed['start_offset'], credit, credit, 0
        self.records, self.gaps, self.ended = collections.deque(), [], None
        connection.subscriptions[partition_id] = self

    def told(self, header, body, values):
        if header.kind == GAP:
            self.gaps.append((header.offset, header.sequence, header.flags))
            self.next_offset = max(self.next_offset, header.offset + header.sequence)
        elif header.kind == DELIVER:
            records = decode_batch(body, header.record_count, header.offset)
            new = [record for record in records if record.offset >= self.next_offset]
            self.next_offset = header.offset + header.offset_span
            # The frame counts against the credit until its last record is taken.
            self.records.extend((record, 0) for record in new[:-1])
            self.records.extend((record, 64 + len(body)) for record in new[-1:])
            self.used += 0 if new else 64 + len(body)
        else:
            self.ended = Refused(values) if header.kind == ERROR else StopIteration()

    def next(self, timeout=10):
        """The next record."""
        self.connection.wait(lambda: self.records or self.ended, timeout)
        if not self.records:
            raise self.ended
        record, frame_bytes = self.records.popleft()
        self.used += frame_bytes
        if self.limit - self.used < self.window // 2:
            self.limit = self.used + self.window
            self.connection.send(frame(CREDIT, channel=self.partition_id, offset=self.limit))
        return record

    def __iter__(self):
        return self

    __next__ = next

    def commit(self, offset):
        """Keeps an offset under the subscription's name; returns the one that was stored."""
        body = encode(COMMIT, name=self.name, offset=offset)
        return self.connection.request(COMMIT, body, lambda header, _: header.offset, self.partition_id)

    def unsubscribe(self):
        self.connection.send(frame(UNSUBSCRIBE, channel=self.partition_id))
        self.connection.wait(lambda: self.ended)
        del self.connection.subscriptions[self.partition_id]


def main(verb, address, topic, count='1'):
    connection = Connection(address)
    if verb == 'pub':
        channel = connection.open(topic)
        for line in sys.stdin.buffer:
            channel.publish([line.rstrip(b'\n')])
        channel.flush()
    else:
        subscription = connection.subscribe(topic)
        for _ in range(int(count)):
            sys.stdout.buffer.write(subscription.next(60).payload + b'\n')
    connection.close()


if __name__ == '__main__':
    if len(sys.argv) < 4 or sys.argv[1] not in ('pub', 'sub'):
        sys.exit(__doc__)
    main(*sys.argv[1:])
