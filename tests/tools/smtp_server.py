"""A mail server for the tests: aiosmtpd with TLS and AUTH. Each mail it takes is a line of JSON in a file.

usage: smtp_server.py PORT MODE CERTIFICATE KEY USER PASSWORD FILE
MODE is smtps (TLS from the start) or starttls (required before anything else).
Recipients that begin with "gone" are refused for good, those that begin with "busy" for now. A mail for one that begins
with "cut" is taken, and the connection closed in place of an answer.
"""

import asyncio
import email
import email.policy
import json
import ssl
import sys
import time

from aiosmtpd.smtp import SMTP, AuthResult

port, mode, certificate, key, user, password, path = sys.argv[1:8]

context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(certificate, key)


def authenticate(server, session, envelope, mechanism, data):
    good = data.login == user.encode() and data.password == password.encode()
    return AuthResult(success=good, handled=good)


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("gone"):
            return "550 5.1.1 no such mailbox"
        if address.startswith("busy"):
            return "451 4.3.2 come back later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        taken = {
            "at": time.time(),
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "subject": message["subject"],
            "id": message["message-id"],
            "body": message.get_content(),
            "tls": session.ssl is not None or mode == "smtps",
            "signed_in": bool(session.authenticated),
        }
        with open(path, "a") as file:
            file.write(json.dumps(taken) + "\n")
        if envelope.rcpt_tos[0].startswith("cut"):
            server.transport.abort()
        return "250 OK"


def protocol():
    return SMTP(
        Handler(),
        hostname="localhost",
        tls_context=context if mode == "starttls" else None,
        require_starttls=mode == "starttls",
        authenticator=authenticate,
        auth_required=True,
        auth_require_tls=mode == "starttls",
        loop=asyncio.get_running_loop(),
    )


async def main():
    loop = asyncio.get_running_loop()
    tls = context if mode == "smtps" else None
    server = await loop.create_server(protocol, "127.0.0.1", int(port), ssl=tls)
    print(f"listening on http://127.0.0.1:{port}", flush=True)
    await server.serve_forever()


asyncio.run(main())
