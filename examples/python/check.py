#!/usr/bin/env python3
"""Checks the client beside it, and with it docs/protocol.md, against the golden frames and a server:

    check.py GOLDEN_DIR HOST:PORT
"""

import pathlib
import random
import sys
import time
import tomllib

import uringest_wire as wire
from uringest_client import Connection, Refused

NAMES = {'bad_name': 42, 'not_subscribed': 54, 'bad_body_checksum': 70, 'count_mismatch': 73, 'deadline_expired': 77,
         'sequence_too_old': 78, 'duplicate_mismatch': 79, 'unknown_producer': 80, 'producer_fenced': 81, 'out_of_sequence': 83}


def expect(what, got, wanted):
    if got != wanted:
        raise AssertionError(f'{what}: {got!r} instead of {wanted!r}')


# ---- golden frames

def plain_bytes(value):
    """Bytes as the index gives them."""
    return bytes.fromhex(value[4:]) if value.startswith('hex:') else value.encode()


def golden_batch(header, body, wanted):
    records = wire.decode_batch(body, header.record_count, header.offset)
    given = [wire.Record(header.offset + n, plain_bytes(r['payload']), plain_bytes(r.get('key', '')),
                         plain_bytes(r.get('header', '')), r.get('time_ns', 0)) for n, r in enumerate(wanted['records'])]
    expect('records', records, given)
    columns = dict(keys=[r.key for r in records], headers=[r.header for r in records], times=[r.time_ns for r in records],
                   trace=plain_bytes(wanted['trace']), deadline_ns=wanted['deadline_ns'])
    columns = {name: value for name, value in columns.items() if (any(value) if isinstance(value, list) else value)}
    again = wire.encode_batch([r.payload for r in records], **columns)
    expect('records written and read', wire.decode_batch(again, len(records), header.offset), records)


def golden_refusal(data, entry):
    """The name of the code with which this client refuses the frame, or `ok`."""
    try:
        header = wire.parse_header(data[:64], 131072)
        body = data[64:]
        expect('length', len(body), header.body_bytes)
        wire.check_body(header, data[:64], body)
        for name, value in entry.get('header', {}).items():
            expect(name, getattr(header, name), value)
        if header.kind in (wire.PUBLISH, wire.DELIVER):
            if 'body' in entry:
                golden_batch(header, body, entry['body'])
            else:
                wire.decode_batch(body, header.record_count)
        elif header.kind in wire.BODIES and body:
            values = wire.decode(header.kind, body)
            if 'body' in entry:
                expect('body', values, entry['body'])
                written = {name: value for name, value in values.items() if name != 'shard_addresses'}
                read = wire.decode(header.kind, wire.encode(header.kind, **written))
                expect('body written and read', {name: read[name] for name in written}, written)
        return 'ok'
    except wire.ProtocolError as error:
        return error.code


def golden(directory):
    frames = tomllib.loads((directory / 'index.toml').read_text())['frame']
    # Well-formed tables whose values only the server judges.
    server_only = {'bad_hello.bin', 'bad_name.bin', 'bad_start.bin', 'impossible_ack_level.bin', 'producer_id_zero.bin',
                   'record_too_large.bin'}
    for entry in frames:
        got = golden_refusal((directory / entry['file']).read_bytes(), entry)
        expect(entry['file'], got, 'ok' if entry['file'] in server_only else entry['expect'])
    print(len(frames), 'golden frames')


# ---- a server

def code_of(act):
    try:
        act()
    except Refused as refused:
        return refused.code
    return 'accepted'


def columns(address, topic):
    """Every column arrives as sent, frames of every shape, in order."""
    producer, consumer = Connection(address), Connection(address)
    channel, subscription = producer.open(topic), consumer.subscribe(topic, credit=20_000)
    rng, sent = random.Random(7), []
    for n in range(400):
        count = rng.choice((1, 1, 3, 40))
        batch = [wire.Record(0, b'%d/%d ' % (n, i) + rng.randbytes(rng.choice((0, 10, 300))), b'k%d' % i if n % 2 else b'',
                             b'h' * (n % 3), n if n % 5 else 0) for i in range(count)]
        lists = dict(keys=[r.key for r in batch], headers=[r.header for r in batch], times=[r.time_ns for r in batch])
        channel.publish([r.payload for r in batch], **{name: part for name, part in lists.items() if any(part)})
        sent += batch
    channel.flush()
    got = [subscription.next() for _ in sent]
    expect('records', got, [record._replace(offset=n) for n, record in enumerate(sent)])
    expect('gaps', subscription.gaps, [])
    producer.close()
    consumer.close()
    print(len(sent), 'records of', channel.next_sequence - 1, 'batches')


def largest(address, topic):
    """Frames up to the largest, through any credit."""
    connection = Connection(address)
    channel, most = connection.open(topic), connection.welcome['frame_bytes_max'] - 64 - 28 - 16
    record = connection.welcome['record_bytes_max']
    for size in (60_000, most, most, 1, most):
        channel.publish([bytes(min(record, size - at)) for at in range(0, size, record)])
    channel.flush()
    connection.close()


def sequences(address, topic, pin):
    """Section 7's table. `pin`: a topic opened first, so that the partition may be another shard's."""
    connection = Connection(address)
    if pin:
        connection.open(pin)
    channel = connection.open(topic, ack_every_batches=1)

    def answer(sequence, payload=b'x', count=1, spoil=0, producer=channel.producer_id, **columns):
        body = wire.encode_batch([payload], **columns)
        data = bytearray(wire.frame(wire.PUBLISH, body, count, producer, sequence, channel.channel))
        if spoil:  # a checksum that is wrong in a header that is right
            data[32] ^= 1
            data[60:64] = wire.crc32c(data[:60]).to_bytes(4, 'little')
        channel.acked, channel.in_flight, channel.again, channel.refused = None, {sequence: bytes(data)}, {}, []
        connection.send(data)
        connection.wait(lambda: channel.acked or channel.again or channel.refused)
        if channel.acked:
            return 'duplicate' if channel.acked.flags & wire.DUPLICATE else 'ack'
        return 'again' if channel.again else channel.refused[0].code

    for what, got, wanted in (
        ('unknown producer', lambda: answer(5), 'unknown_producer'),
        ('0', lambda: answer(0), 'sequence_too_old'),
        ('1', lambda: answer(1), 'ack'),
        ('1 again', lambda: answer(1), 'duplicate'),
        ('1 with other bytes', lambda: answer(1, b'y'), 'duplicate_mismatch'),
        ('3 before 2', lambda: answer(3), 'again'),
        ('3 before 2, spoilt', lambda: answer(3, spoil=1), 'again'),
        ('2 of another producer', lambda: answer(2, producer=channel.producer_id ^ 1), 'unknown_producer'),
        ('2 spoilt', lambda: answer(2, spoil=1), 'bad_body_checksum'),
        ('2 again, whole', lambda: answer(2), 'bad_body_checksum'),
        ('3', lambda: answer(3), 'ack'),
        ('4 with a wrong count', lambda: answer(4, count=2), 'count_mismatch'),
        ('5 too late', lambda: answer(5, deadline_ns=1), 'deadline_expired'),
        ('6', lambda: answer(6), 'ack'),
    ):
        expect(what, got(), NAMES.get(wanted, wanted))
    other = Connection(address)
    expect('next sequence', other.open(topic, producer_id=channel.producer_id).next_sequence, 7)
    expect('fenced', answer(7), NAMES['producer_fenced'])
    connection.close()
    other.close()


def reconnect(address, topic):
    """Lost connections cost nothing and double nothing."""
    connection = Connection(address)
    channel = connection.open(topic)
    for n in range(1200):
        if n % 400 == 200:
            connection.socket.close()
            connection = Connection(address)
            channel = channel.reopened(connection, topic)
        channel.publish([b'%d' % n])
    channel.flush()
    subscription = connection.subscribe(topic)
    expect('records', [int(subscription.next().payload) for _ in range(1200)], list(range(1200)))
    connection.close()


def resume(address, topic):
    """Commits, and going on from them; requests that fail."""
    connection = Connection(address)
    channel = connection.open(topic)
    channel.publish([b'%d' % n for n in range(100)])
    channel.flush()
    first = connection.subscribe(topic, name='checker')
    expect('stored', first.commit(42), 42)
    first.unsubscribe()
    second = connection.subscribe(topic, name='checker', resume=True)
    record = second.next()
    expect('where it goes on', (record.offset, record.payload), (42, b'42'))
    expect('beyond the end', second.commit(1 << 60), 100)
    partition, second.partition_id = second.partition_id, 1 << 31
    expect('a partition not subscribed to', code_of(lambda: second.commit(1)), NAMES['not_subscribed'])
    second.partition_id, second.name = partition, 'a name'
    expect('a bad name', code_of(lambda: second.commit(1)), NAMES['bad_name'])
    expect('a bad topic', code_of(lambda: connection.open('.hidden')), NAMES['bad_name'])
    expect('resume without a name', code_of(lambda: connection.subscribe(topic + '-2', resume=True)), NAMES['bad_name'])
    channel.release()
    connection.close()


def main(directory, address):
    golden(pathlib.Path(directory))
    run = f'check-{time.time_ns():x}'
    columns(address, f'{run}/columns')
    largest(address, f'{run}/largest')
    for n in range(4):  # with and without another shard in between, whichever shards the topics went to
        sequences(address, f'{run}/sequences-{n}', f'{run}/sequences-{n - 1}' if n else None)
    reconnect(address, f'{run}/reconnect')
    resume(address, f'{run}/resume')
    print('as specified')


if __name__ == '__main__':
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
