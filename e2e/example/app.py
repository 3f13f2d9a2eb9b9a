"""An application of several workers on several hosts, which share what they know
through the agent beside them. Run it with: uvicorn app:app --workers 2"""

import json
import os
import time
import urllib.error
import urllib.request

from fastapi import FastAPI, HTTPException, Request

AGENT = os.environ.get("DISC_AGENT", "http://127.0.0.1:3472")
app = FastAPI()


def disc(method, path, body=None):
    return urllib.request.urlopen(urllib.request.Request(AGENT + "/v1" + path, method=method, data=body))


@app.put("/greeting")
async def set_greeting(request: Request):
    """One worker is told, and all of them know it."""
    answer = disc("PUT", "/kv/app/greeting", await request.body())
    return {"worker": os.getpid(), "revision": int(answer.headers["Disc-Revision"])}


@app.get("/greeting")
def greeting(min_rev: int = 0):
    value = disc("GET", f"/kv/app/greeting?min_rev={min_rev}").read()
    return {"worker": os.getpid(), "value": value.decode()}


@app.post("/send")
def send():
    """All workers together send no more than the limit allows."""
    try:
        disc("POST", "/limits/sms/take")
    except urllib.error.HTTPError as refused:
        raise HTTPException(refused.code, headers={"Retry-After": refused.headers["Retry-After"]})
    return {"worker": os.getpid()}


@app.post("/work")
def work(seconds: float = 0):
    """An idle GPU, which nobody else has meanwhile."""
    claim = json.load(disc("POST", "/claims/gpu?wait=30s"))
    begin = time.monotonic()
    time.sleep(seconds)
    end = time.monotonic()
    disc("DELETE", "/claims/" + claim["claim"])
    return {"worker": os.getpid(), "gpu": claim["endpoint"]["id"], "fence": claim["fence"], "begin": begin, "end": end}
