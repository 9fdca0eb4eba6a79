"""The bytes of the uringest protocol, version 1, from docs/protocol.md alone: frames, control bodies, batches.

Standard library only. Numbers in comments are the document's sections.
"""

import collections
import struct

# ---- 2: frames

(HELLO, WELCOME, OPEN, OPENED, PUBLISH, ACK, NACK, SUBSCRIBE, SUBSCRIBED, DELIVER, CREDIT, COMMIT, COMMITTED, GAP, PING,
 PONG, DRAIN, CLOSE, ERROR, RELEASE, UNSUBSCRIBE) = range(1, 22)
HEADER_ONLY = {ACK, CREDIT, COMMITTED, GAP, PING, PONG, DRAIN, RELEASE, UNSUBSCRIBE}
FLAGS = {ACK: 0x0032, GAP: 0x000F}
DUPLICATE = 0x0002
HEADER = struct.Struct('<HBBIHHIQQIIQQII')
CONTROL_BODY_MAX = 4096

Header = collections.namedtuple('Header', 'magic version kind body_bytes flags reserved record_count producer_id sequence '
                                          'body_checksum channel offset append_time_ns offset_span header_checksum')


class ProtocolError(Exception):
    """What arrived is not what the protocol allows; `code` is the name of section 9 that says so best."""

    def __init__(self, code, detail=''):
        super().__init__(f'{code}: {detail}' if detail else code)
        self.code = code


def _crc_table():
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_CRC = _crc_table()


def crc32c(data, crc=0):
    """CRC-32C of data; `crc` is the result for what came before."""
    table, crc = _CRC, crc ^ 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def frame(kind, body=b'', record_count=0, producer_id=0, sequence=0, channel=0, offset=0):
    """A sealed frame."""
    head = bytearray(HEADER.pack(0x5255, 1, kind, len(body), 0, 0, record_count, producer_id, sequence, 0, channel, offset,
                                 0, 0, 0))
    struct.pack_into('<I', head, 32, crc32c(body, crc32c(head[4:32])))
    struct.pack_into('<I', head, 60, crc32c(head[:60]))
    return bytes(head) + body


def readdressed(sealed, channel):
    """The same batch for another channel: only the header checksum changes."""
    head = bytearray(sealed[:64])
    struct.pack_into('<I', head, 36, channel)
    struct.pack_into('<I', head, 60, crc32c(head[:60]))
    return bytes(head) + sealed[64:]


def parse_header(head, frame_bytes_max):
    """The header of the frame that begins with these 64 bytes, checked in the order that section 2 gives."""
    header = Header(*HEADER.unpack(head))
    if header.magic != 0x5255:
        raise ProtocolError('bad_magic')
    if header.version != 1:
        raise ProtocolError('bad_version')
    if crc32c(head[:60]) != header.header_checksum:
        raise ProtocolError('bad_header_checksum')
    if not HELLO <= header.kind <= UNSUBSCRIBE:
        raise ProtocolError('bad_kind')
    if header.reserved or header.flags & ~FLAGS.get(header.kind, 0):
        raise ProtocolError('reserved_not_zero')
    if header.kind == PUBLISH and (header.offset or header.append_time_ns or header.offset_span):
        raise ProtocolError('reserved_not_zero')
    if header.body_bytes % 8 or header.body_bytes and header.kind in HEADER_ONLY:
        raise ProtocolError('bad_length')
    batch = header.kind in (PUBLISH, DELIVER)
    if header.body_bytes + 64 > (frame_bytes_max if batch else CONTROL_BODY_MAX + 64):
        raise ProtocolError('frame_too_large')
    return header


def check_body(header, head, body):
    """Raises where the body is not the one that was sealed."""
    if crc32c(body, crc32c(head[4:32])) != header.body_checksum:
        batch = header.kind in (PUBLISH, DELIVER)
        raise ProtocolError('bad_body_checksum' if batch else 'bad_control_checksum')


# ---- 13: FlatBuffers by hand. A field's type is a struct letter, 's' a string, 'S' strings, '[X' a vector of letter X.

def encode_table(fields):
    """A whole body from [(number, type, value)]."""
    inline = lambda kind: struct.calcsize(kind) if kind in 'BHIQ' else 4
    vtable = [0] * (max((n for n, _, _ in fields), default=-1) + 1)
    at, places = 4, []
    start = 8 + 2 * len(vtable)
    start += -(start + 4) % 8
    for n, kind, value in sorted(fields, key=lambda field: -inline(field[1])):
        vtable[n] = at
        places.append((start + at, kind, value))
        at += inline(kind)
    out = bytearray(start + at)
    struct.pack_into('<I', out, 0, start)
    struct.pack_into(f'<HH{len(vtable)}H', out, 4, 4 + 2 * len(vtable), at, *vtable)
    struct.pack_into('<i', out, start, start - 4)
    for place, kind, value in places:
        if kind in 'BHIQ':
            struct.pack_into('<' + kind, out, place, value)
            continue
        if kind in ('s', '[B'):
            data = value.encode() if isinstance(value, str) else bytes(value)
        else:
            data = struct.pack(f'<{len(value)}{kind[1]}', *value)
        out += bytes(-len(out) % 4)
        if kind == '[Q' and (len(out) + 4) % 8:
            out += bytes(4)
        struct.pack_into('<I', out, place, len(out) - place)
        out += struct.pack('<I', len(value) if kind[0] == '[' else len(data)) + data + (b'\0' if kind == 's' else b'')
    return bytes(out + bytes(-len(out) % 8))


class Table:
    """The root table of a body. Every place is checked to lie within it."""

    def __init__(self, body):
        self.body = body
        self.table = self._at('I', 0)
        self.vtable = self.table - self._at('i', self.table)
        self.slots_end = self.vtable + self._at('H', self.vtable)
        self._at('B', self.slots_end - 1)

    def _at(self, kind, place):
        if place < 0 or place + struct.calcsize('<' + kind) > len(self.body):
            raise ProtocolError('bad_control_body', 'a place outside of the body')
        return struct.unpack_from('<' + kind, self.body, place)[0]

    def place(self, n):
        """Where field n is, or None where it is absent."""
        slot = self.vtable + 4 + 2 * n
        distance = self._at('H', slot) if slot + 2 <= self.slots_end else 0
        return self.table + distance if distance else None

    def _elements(self, place, kind):
        start = place + self._at('I', place)
        return struct.unpack_from(self._fits(f'<{self._at("I", start)}{kind}', start + 4), self.body, start + 4)

    def _fits(self, layout, start):
        if start + struct.calcsize(layout) > len(self.body):
            raise ProtocolError('bad_control_body', 'a vector beyond the body')
        return layout

    def _string(self, place):
        start = place + self._at('I', place)
        count = self._at('I', start)
        if self._at('B', start + 4 + count):
            raise ProtocolError('bad_control_body', 'a string without its end')
        try:
            return self.body[start + 4:start + 4 + count].decode()
        except UnicodeDecodeError as error:
            raise ProtocolError('bad_control_body', str(error)) from None

    def read(self, n, kind):
        """Field n, or what an absent one means."""
        place = self.place(n)
        if place is None:
            return {'s': '', 'S': []}.get(kind, None if kind[0] == '[' else 0)
        if kind == 's':
            return self._string(place)
        if kind == 'S':
            start = place + self._at('I', place)
            return [self._string(start + 4 + 4 * i) for i in range(len(self._elements(place, 'I')))]
        if kind == '[B':
            start = place + self._at('I', place)
            self._fits(f'<{self._at("I", start)}B', start + 4)
            return self.body[start + 4:start + 4 + self._at('I', start)]
        return self._elements(place, kind[1]) if kind[0] == '[' else self._at(kind, place)


# ---- 5: control bodies. A type with '?' behind it: absent has a meaning of its own, and no value.

_REFUSAL = 'code:H retry_after_us:I record_plus_one:I detail:s'
BODIES = {kind: [field.split(':') for field in fields.split()] for kind, fields in {
    HELLO: 'client:s version_min:B version_max:B features:Q token:s',
    WELCOME: 'server:s version:B features:Q session:Q shard:H shards:H tenant:s frame_bytes_max:I record_bytes_max:I '
             'batch_records_max:I inflight_batches_max:I channels_max:I subscriptions_max:I idle_timeout_ms:I shard_addresses:S',
    OPEN: 'topic:s partition:I producer_id:Q ack_level:B? ack_every_batches:I ack_every_us:I connections:Q',
    OPENED: 'partition_id:I partition_count:I shard:H ack_level:B next_sequence:Q credit:Q',
    SUBSCRIBE: 'topic:s partition:I start_at:B start_value:Q name:s resume:B credit:Q',
    SUBSCRIBED: 'partition_count:I shard:H start_offset:Q log_start_offset:Q log_end_offset:Q',
    COMMIT: 'name:s offset:Q',
    NACK: _REFUSAL, ERROR: _REFUSAL, CLOSE: _REFUSAL}.items()}
REQUIRED = {OPEN: 'topic', SUBSCRIBE: 'topic', COMMIT: 'name'}
UNAVAILABLE = 55
RETRYABLE = {83, 84, 85, 86, 87, 89, 90}  # of the codes of a nack: 9


def encode(kind, **values):
    """The body of a control frame."""
    fields = [(n, kind_of.rstrip('?'), values.pop(name)) for n, (name, kind_of) in enumerate(BODIES[kind]) if name in values]
    assert not values, values
    return encode_table([field for field in fields if field[2] is not None])


def decode(kind, body):
    """The values of a control frame's body."""
    table = Table(body)
    for n, (name, _) in enumerate(BODIES[kind]):
        if name == REQUIRED.get(kind) and table.place(n) is None:
            raise ProtocolError('bad_control_body', f'no {name}')
    present = [(n, name, kind_of) for n, (name, kind_of) in enumerate(BODIES[kind])
               if not kind_of.endswith('?') or table.place(n) is not None]
    return {name: table.read(n, kind_of.rstrip('?')) for n, name, kind_of in present}


# ---- 6: batches

Record = collections.namedtuple('Record', 'offset payload key header time_ns', defaults=(b'', b'', 0))


def _ends(parts):
    end, out = 0, []
    for part in parts:
        end += len(part)
        out.append(end)
    return out


def encode_batch(payloads, keys=None, headers=None, times=None, trace=b'', deadline_ns=0):
    """The body of a batch. Payloads only: the plain batch of section 6."""
    data = b''.join(payloads)
    if not (keys or headers or times or trace or deadline_ns):
        padded = -(-len(data) // 4) * 4
        body = struct.pack('<IHHHHIIII', 12, 8, 12, 4, 8, 8, 28 + padded - 16, 4, len(data)) + data.ljust(padded, b'\0')
        body += struct.pack(f'<I{len(payloads)}I', len(payloads), *_ends(payloads))
        return body + bytes(-len(body) % 8)
    fields = [(0, '[I', _ends(payloads)), (1, '[B', data)]
    fields += [(2, '[I', _ends(keys)), (3, '[B', b''.join(keys))] if keys else []
    fields += [(4, '[Q', times)] if times else []
    fields += [(5, '[I', _ends(headers)), (6, '[B', b''.join(headers))] if headers else []
    fields += [(7, '[B', trace)] if trace else []
    fields += [(8, 'Q', deadline_ns)] if deadline_ns else []
    return encode_table(fields)


def _column(ends, data, count):
    if (ends is None) != (data is None):
        raise ProtocolError('bad_batch', 'ends without bytes, or bytes without ends')
    if ends is None:
        return [b''] * count
    if len(ends) != count:
        raise ProtocolError('count_mismatch')
    starts = (0, *ends[:-1])
    if any(start > end for start, end in zip(starts, ends)) or ends[-1] != len(data):
        raise ProtocolError('ends_not_monotonic')
    return [data[start:end] for start, end in zip(starts, ends)]


def decode_batch(body, record_count, offset=0):
    """The records of a batch whose first has this offset."""
    try:
        table = Table(body)
        kinds = ('[I', '[B', '[I', '[B', '[Q', '[I', '[B')
        ends, data, key_ends, keys, times, header_ends, headers = (table.read(n, kind) for n, kind in enumerate(kinds))
    except ProtocolError as error:
        raise ProtocolError('bad_batch', str(error)) from None
    if ends is None or data is None or (key_ends is None) != (keys is None) or (header_ends is None) != (headers is None):
        raise ProtocolError('bad_batch', 'a column is missing')
    if not ends:
        raise ProtocolError('empty_batch')
    count = len(ends)
    if count != record_count or times is not None and len(times) != count:
        raise ProtocolError('count_mismatch')
    columns = _column(ends, data, count), _column(key_ends, keys, count), _column(header_ends, headers, count)
    return [Record(offset + n, *values) for n, values in enumerate(zip(*columns, times or [0] * count))]
