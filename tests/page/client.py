"""As much of a PostgreSQL client as it takes to say what no driver would: SCRAM-SHA-256 and simple queries."""

import base64
import hashlib
import hmac
import secrets
import socket
import struct


class Client:
    def __init__(self, port, user, password, database, application_name):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.input = self.socket.makefile("rb")
        words = ["user", user, "database", database, "application_name", application_name]
        body = struct.pack("!i", 196608) + b"".join(word.encode() + b"\0" for word in words) + b"\0"
        self.socket.sendall(struct.pack("!i", len(body) + 4) + body)
        self.log_in(password)

    def close(self):
        self.input.close()
        self.socket.close()

    def send(self, tag, body):
        self.socket.sendall(tag + struct.pack("!i", len(body) + 4) + body)

    def receive(self):
        tag, length = struct.unpack("!ci", self.input.read(5))
        body = self.input.read(length - 4)
        assert tag != b"E", body
        return tag, body

    def log_in(self, password):
        tag, body = self.receive()
        assert tag == b"R" and body[:4] == b"\0\0\0\x0a", body
        first = f"n=,r={secrets.token_hex(12)}"
        initial = f"n,,{first}".encode()
        self.send(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(initial)) + initial)
        server = self.receive()[1][4:].decode()
        nonce, salt, rounds = (part.split("=", 1)[1] for part in server.split(","))
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(rounds))
        key = hmac.digest(salted, b"Client Key", "sha256")
        final = f"c=biws,r={nonce}"
        proof = hmac.digest(hashlib.sha256(key).digest(), f"{first},{server},{final}".encode(), "sha256")
        mixed = bytes(a ^ b for a, b in zip(key, proof))
        self.send(b"p", f"{final},p={base64.b64encode(mixed).decode()}".encode())
        while self.receive()[0] != b"Z":
            pass

    def query(self, sql):
        """The first value of the first row, if there is one."""
        self.send(b"Q", sql.encode() + b"\0")
        value = None
        while True:
            tag, body = self.receive()
            if tag == b"D" and value is None:
                length = struct.unpack("!i", body[2:6])[0]
                value = body[6 : 6 + length].decode()
            if tag == b"Z":
                return value
