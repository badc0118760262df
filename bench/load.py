"A load generator: so many connections, each with one request at a time, and how long the answers took"
import asyncio
import time


async def _caller(host, port, request, end, times, failures):
    "Put requests until the time is over; a connection that was closed is opened again"
    reader = writer = None
    while time.perf_counter() < end:
        begin = time.perf_counter()
        try:
            if writer is None: reader, writer = await asyncio.open_connection(host, port)
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if b"content-length:" in head:
                await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
            else: await reader.read()
            good, refused = (code in head.split(b"\r\n")[0] for code in (b" 200 ", b" 429 "))
            closing = b"connection: close" in head or head.startswith(b"http/1.0")
        except (OSError, asyncio.IncompleteReadError): good, refused, closing = False, False, True
        if good: times.append(time.perf_counter() - begin)
        else: failures.append(refused)
        if closing and writer: writer.close(); writer = None
    if writer: writer.close()


async def _run(host, port, request, seconds, connections):
    times, failures, begin = [], [], time.perf_counter()
    await asyncio.gather(*(_caller(host, port, request, begin + seconds, times, failures) for _ in range(connections)))
    return times, failures, time.perf_counter() - begin


def measure(port: int, path: str, body: bytes, key: str = "", seconds: float = 10, connections: int = 8) -> dict:
    "Requests per second, milliseconds, and failures: those refused with 429, and those that are broken"
    key = f"Authorization: Bearer {key}\r\n" if key else ""
    about = f"Host: 127.0.0.1\r\nContent-Type: application/json\r\n{key}Content-Length: {len(body)}\r\n"
    head = f"POST {path} HTTP/1.1\r\n{about}\r\n"
    times, failures, took = asyncio.run(_run("127.0.0.1", port, head.encode() + body, seconds, connections))
    times.sort()
    at = lambda share: round(1000 * times[min(len(times) - 1, int(share * len(times)))], 2) if times else None
    refused = sum(failures)
    return {"per_second": round(len(times) / took, 1), "p50_ms": at(0.5), "p99_ms": at(0.99), "longest_ms": at(1),
            "failures": len(failures), "refused": refused, "broken": len(failures) - refused,
            "requests": len(times) + len(failures)}
