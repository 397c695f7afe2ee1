"""Ends TLS before a receiver that speaks HTTP/2 without it; who comes has to have a certificate.

usage: tls.py PORT TARGET, in a folder with ca.pem, server.pem and server.key
"""

import asyncio
import ssl
import sys

PORT, TARGET = map(int, sys.argv[1:])


async def forward(reader, writer):
    try:
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    except OSError:
        pass
    writer.close()


async def serve(reader, writer):
    try:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", TARGET)
    except OSError:
        writer.close()
        return
    await asyncio.gather(forward(reader, far_writer), forward(far_reader, writer))


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("server.pem", "server.key")
    context.load_verify_locations("ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])
    server = await asyncio.start_server(serve, "127.0.0.1", PORT, ssl=context)
    print("up", flush=True)
    await server.serve_forever()


asyncio.run(main())
