"""An application with several workers on several hosts. They share a value, a limit and
claims through the agent on their host. Run it with: PORT=8000 WORKERS=2 python3 app.py"""

import asyncio
import http.client
import json
import multiprocessing
import os
import re
import secrets
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

AGENT = os.environ.get("DISC_AGENT", "http://127.0.0.1:3472")
PORT = int(os.environ.get("PORT", "8000"))
WORKERS = int(os.environ.get("WORKERS", "1"))
TTL = 5  # seconds within which a claim is renewed
app = FastAPI()
waits = ThreadPoolExecutor(100)  # for callers that wait for a GPU, which may be many
renewals = ThreadPoolExecutor(100)  # a renewal must not wait until one of those has its GPU
working = set()  # the tasks that use a GPU, or wait for one


def disc(method, path, body=None, headers={}, timeout=60):
    """Asks the agent. It blocks: an async function calls it by run_in_threadpool."""
    request = urllib.request.Request(AGENT + "/v1" + path, body, dict(headers), method=method)
    return urllib.request.urlopen(request, timeout=timeout)


@app.exception_handler(urllib.error.HTTPError)
def refused(_, error):
    """Passes on that a limit is used up. Whatever else the agent refuses is no fault of the caller."""
    try:
        detail = json.load(error)["detail"]
    except (ValueError, KeyError):
        detail = str(error)
    again = error.headers.get("Retry-After")
    headers = {"Retry-After": again} if again else {}
    return JSONResponse({"detail": detail}, 429 if error.code == 429 else 503, headers)


@app.exception_handler(OSError)
def unreachable(_, error):
    return JSONResponse({"detail": f"the agent at {AGENT}: {error}"}, 503)


@app.get("/healthz")
async def healthz():
    return {"worker": os.getpid()}


@app.put("/greeting")
async def set_greeting(request: Request):
    """Writes the greeting, which every worker reads."""
    answer = await run_in_threadpool(disc, "PUT", "/kv/app/greeting", await request.body())
    return {"worker": os.getpid(), "revision": int(answer.headers["Disc-Revision"])}


@app.get("/greeting")
def greeting(min_rev: int = 0):
    value = disc("GET", f"/kv/app/greeting?min_rev={min_rev}").read()
    return {"worker": os.getpid(), "value": value.decode()}


@app.post("/send")
def send():
    """Sends a message. The limit applies to all workers together."""
    disc("POST", "/limits/sms/take")
    return {"worker": os.getpid()}


class Lost(Exception):
    """The claim is lost: somebody else may have the GPU."""


@app.exception_handler(Lost)
def lost(_, error):
    return JSONResponse({"detail": str(error)}, 409)


@app.post("/work")
async def work(request: Request, seconds: float = 0):
    """Uses an idle GPU, which no other worker uses meanwhile. It stops when the caller leaves, or
    this process is told to end."""
    using = asyncio.create_task(use_gpu(seconds))
    working.add(using)
    using.add_done_callback(working.discard)
    leaving = asyncio.create_task(left(request))
    await asyncio.wait({using, leaving}, return_when=asyncio.FIRST_COMPLETED)
    leaving.cancel()
    if not using.done():
        using.cancel()
        await asyncio.wait({using})
    if using.cancelled():
        return JSONResponse({"detail": "the caller has left, or the application ends"}, 503)
    return using.result()


async def left(request):
    while not await request.is_disconnected():
        await asyncio.sleep(0.1)


async def use_gpu(seconds):
    """Claims a GPU, renews the claim while it works, and releases it, whatever happens."""
    body = json.dumps({"ttl": f"{TTL}s"}).encode()
    asking = waits.submit(disc, "POST", "/claims/gpu?wait=30s", body)
    try:
        claim = json.load(await asyncio.wrap_future(asking))
    except asyncio.CancelledError:
        if not asking.cancelled():  # the request is on its way
            threading.Thread(target=release_unused, args=(asking,), daemon=True).start()
        raise
    tasks = []
    try:
        valid = await renew_once(claim, TTL)  # the wait may have taken most of its time
        tasks = [asyncio.create_task(renew(claim, valid)), asyncio.create_task(compute(claim, seconds))]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.shield(asyncio.wrap_future(renewals.submit(release, claim)))


def release_unused(asking):
    if not asking.exception():  # it waits for the answer
        release(json.load(asking.result()))


async def renew(claim, valid):
    """Renews a claim until it is lost. It is valid until then, in monotonic time."""
    while True:
        await asyncio.sleep(min(TTL / 3, max(0, valid - time.monotonic())))
        left = valid - time.monotonic()
        if left <= 0:
            raise Lost("the claim could not be renewed in time")
        try:
            valid = await renew_once(claim, min(TTL / 3, left))
        except OSError:
            pass  # the agent is away: it may be back in time


async def renew_once(claim, limit):
    """Renews a claim, and returns until when it is valid."""
    sent = time.monotonic()
    try:
        asking = asyncio.wrap_future(renewals.submit(ask_renewal, claim, limit))
        return sent + await asyncio.wait_for(asking, limit)  # the thread's own limit is for each packet
    except asyncio.TimeoutError:
        raise TimeoutError(f"the agent at {AGENT} has not renewed the claim within {limit:.1f} s") from None


def ask_renewal(claim, limit):
    """Renews a claim, and returns for how many seconds it is valid."""
    try:
        return duration(json.load(disc("PUT", "/claims/" + claim["claim"], timeout=limit))["valid_for"])
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            raise Lost(json.load(error)["detail"])
        raise


def duration(text):
    """Returns the seconds of a duration of Go, such as 1m4.5s."""
    units = {"h": 3600, "m": 60, "s": 1, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}
    return sum(float(n) * units[unit] for n, unit in re.findall(r"([0-9.]+)(ms|µs|ns|h|m|s)", text))


def release(claim):
    try:
        disc("DELETE", "/claims/" + claim["claim"], timeout=TTL)
    except OSError:
        pass  # it was lost before, or ends with its TTL


async def compute(claim, seconds):
    begin = time.monotonic()
    await asyncio.sleep(seconds)
    end = time.monotonic()
    await run_in_threadpool(record, claim)
    return {"worker": os.getpid(), "gpu": claim["endpoint"]["id"], "fence": claim["fence"], "begin": begin, "end": end}


def record(claim):
    """Writes the result, unless a later claim of the same slot has written one: whoever was suspended
    for longer than its claim lasted does not know that it has lost it. The fence tells."""
    path = f"/kv/app/results/{claim['endpoint']['id']}/{claim['slot']}"
    while True:
        try:
            before = disc("GET", path + "?consistency=linearizable")
            if json.load(before)["fence"] > claim["fence"]:
                raise Lost("a later claim has written its result")
            condition = {"If-Match": before.headers["ETag"]}
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            condition = {"If-None-Match": "*"}
        try:
            disc("PUT", path, json.dumps({"fence": claim["fence"], "worker": os.getpid()}).encode(), condition)
            return
        except urllib.error.HTTPError as error:
            if error.code != 412:  # 412: somebody wrote in between
                raise


INSTANCE = f"/services/app/instances/{socket.gethostname()}-{PORT}"
HOLDER = {"Disc-Holder": f"app:{os.getpid()}:{secrets.token_hex(4)}"}  # only this process may deregister what it holds


def register(stopping):
    """Keeps the application registered until it ends, or somebody deregisters it by force."""
    while not stopping.is_set():
        try:
            if by := hold(stopping):
                print("not registered any more:", by, flush=True)
                return
        except (OSError, ValueError, http.client.HTTPException):
            pass  # the agent is away, or has another such application
        stopping.wait(1)


def hold(stopping):
    """Registers the application for as long as the request is open. It returns who deregistered the
    application by force: that is the trailer, which http.client drops when it reads the chunks itself."""
    check = {"type": "http", "url": f"http://127.0.0.1:{PORT}/healthz", "interval": "2s"}
    body = json.dumps({"port": PORT, "checks": [check]}).encode()
    with disc("PUT", INSTANCE + "?hold", body, HOLDER) as held:  # the agent sends something every 15 s
        if stopping.is_set():
            deregister()
        while size := int(held.fp.readline(), 16):
            held.fp.read(size + 2)
        return http.client.parse_headers(held.fp)["Disc-Lost"]


def deregister():
    try:
        disc("DELETE", INSTANCE, headers=HOLDER, timeout=5)
    except OSError:
        pass  # it is not registered, or ends 10 s after this process


class Server(uvicorn.Server):
    """A worker. When it is told to end, it stops the work, which releases the claims."""

    def handle_exit(self, sig, frame):
        if sig == signal.SIGTERM:  # a terminal sends SIGINT to all processes: main passes it on
            super().handle_exit(sig, frame)

    async def shutdown(self, sockets=None):
        for task in working:
            task.cancel()
        await super().shutdown(sockets)


def serve(listener):
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDS)
    Server(uvicorn.Config(app, log_level="warning")).run([listener])


ENDS = {signal.SIGTERM, signal.SIGINT}


def main():
    """Runs the workers and keeps them registered. At the end it deregisters them first, while they
    still serve, and then has 10 s for them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
    listener = socket.create_server(("127.0.0.1", PORT), backlog=1024)
    workers = [multiprocessing.Process(target=serve, args=(listener,), daemon=True) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    stopping = threading.Event()
    registering = threading.Thread(target=register, args=(stopping,), daemon=True)
    registering.start()
    signal.sigwait(ENDS)
    stopping.set()
    deregister()
    registering.join(5)
    for worker in workers:
        worker.terminate()
    end = time.monotonic() + 10
    for worker in workers:
        worker.join(max(0, end - time.monotonic()))
        worker.kill()


if __name__ == "__main__":
    main()
