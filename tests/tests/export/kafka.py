"""Kafka for tests: librdkafka's mock of a cluster, and a consumer of it that writes down what it reads.

usage: kafka.py PORT ADVERTISED OUT

The broker is reached at PORT, and tells clients that it is at ADVERTISED, where the test's network is. What the consumer
reads is in OUT, a JSON object a line. Commands on standard input, each answered by a line:

up          lets clients in
down        throws all of them out, as a broker that dies; what it has taken stays, as on its disk
where KEY…  in which partition a producer of librdkafka, told to do as Java's, puts these keys
"""

import json
import socket
import struct
import sys
import threading

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

TOPIC = "events"
# Every so many answers one is lost on its way.
LOST = 17


class Front:
    """Forwards connections to the broker and changes the address that it tells."""

    def __init__(self, port, broker, advertised):
        self.port, self.broker = port, broker
        self.told = [b"127.0.0.1" + struct.pack(">i", which) for which in (broker, advertised)]
        self.listener, self.open, self.answers = None, [], 0
        self.lock = threading.Lock()

    def up(self):
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def down(self):
        with self.lock:
            ends, self.open = [self.listener, *self.open], []
        for end in ends:
            self.close(end)

    @staticmethod
    def close(end):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        end.close()

    def accept(self, listener):
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.broker))
            with self.lock:
                self.open += [near, far]
                if listener is not self.listener:
                    self.close(near)
            for work in (self.forth, self.back):
                threading.Thread(target=self.until_closed, args=(work, near, far), daemon=True).start()

    def until_closed(self, work, near, far):
        try:
            work(near, far)
        except OSError:
            pass
        self.close(near)
        self.close(far)

    @staticmethod
    def forth(near, far):
        while chunk := near.recv(65536):
            far.sendall(chunk)

    def back(self, near, far):
        answers = far.makefile("rb")
        while head := answers.read(4):
            answer = answers.read(struct.unpack(">i", head)[0])
            with self.lock:
                self.answers += 1
                if self.answers % LOST == 0:
                    return
            near.sendall(head + answer.replace(*self.told))


class Reader:
    """Reads all partitions from the beginning on and writes down what they have."""

    def __init__(self, settings, partitions, out):
        self.consumer = Consumer({**settings, "group.id": "test", "check.crcs": True, "enable.auto.commit": False})
        self.consumer.assign([TopicPartition(TOPIC, partition, OFFSET_BEGINNING) for partition in partitions])
        # One that reads would be asked behind its own waiting for more.
        self.asker = Consumer({**settings, "group.id": "ask"})
        self.next = dict.fromkeys(partitions, 0)
        self.out = open(out, "w", encoding="utf-8")
        self.changed = threading.Condition()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        while True:
            messages = self.consumer.consume(1000, 0.05)
            for message in messages:
                assert not message.error(), message.error()
                line = {
                    "partition": message.partition(),
                    "key": message.key().decode(),
                    "id": dict(message.headers())["id"].decode(),
                    "time": message.timestamp()[1],
                    "value": message.value().decode(),
                }
                self.out.write(json.dumps(line) + "\n")
            self.out.flush()
            with self.changed:
                for message in messages:
                    self.next[message.partition()] = message.offset() + 1
                self.changed.notify()

    def catch_up(self):
        for partition in list(self.next):
            _, end = self.asker.get_watermark_offsets(TopicPartition(TOPIC, partition), timeout=10)
            with self.changed:
                assert self.changed.wait_for(lambda: self.next[partition] >= end, 30), "the consumer is stuck"


def where(producer, keys):
    places = {}
    for key in keys:
        producer.produce("where", key=key, on_delivery=lambda _, message: places.update({message.key().decode(): message.partition()}))
    producer.flush(10)
    return json.dumps(places)


def main(port, advertised, out):
    producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "partitioner": "murmur2_random"})
    metadata = producer.list_topics(TOPIC, 10)
    broker = metadata.brokers[1]
    settings = {"bootstrap.servers": f"{broker.host}:{broker.port}", "log_level": 0}
    reader = Reader(settings, list(metadata.topics[TOPIC].partitions), out)
    front = Front(int(port), broker.port, int(advertised))
    for command in sys.stdin:
        answer = "done"
        match command.split():
            case ["up"]:
                front.up()
            case ["down"]:
                front.down()
                reader.catch_up()
            case ["where", *keys]:
                answer = where(producer, keys)
        print(answer, flush=True)


main(*sys.argv[1:])
