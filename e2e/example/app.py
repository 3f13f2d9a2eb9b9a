"""An application with several workers on several hosts. They share a value, a limit and
claims through the agent on their host. Run it with: uvicorn app:app --workers 2"""

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
    """Writes the greeting, which every worker reads."""
    answer = disc("PUT", "/kv/app/greeting", await request.body())
    return {"worker": os.getpid(), "revision": int(answer.headers["Disc-Revision"])}


@app.get("/greeting")
def greeting(min_rev: int = 0):
    value = disc("GET", f"/kv/app/greeting?min_rev={min_rev}").read()
    return {"worker": os.getpid(), "value": value.decode()}


@app.post("/send")
def send():
    """Sends a message. The limit applies to all workers together."""
    try:
        disc("POST", "/limits/sms/take")
    except urllib.error.HTTPError as refused:
        raise HTTPException(refused.code, headers={"Retry-After": refused.headers["Retry-After"]})
    return {"worker": os.getpid()}


@app.post("/work")
def work(seconds: float = 0):
    """Claims an idle GPU, which no other worker uses until it is released."""
    claim = json.load(disc("POST", "/claims/gpu?wait=30s"))
    begin = time.monotonic()
    time.sleep(seconds)
    end = time.monotonic()
    disc("DELETE", "/claims/" + claim["claim"])
    return {"worker": os.getpid(), "gpu": claim["endpoint"]["id"], "fence": claim["fence"], "begin": begin, "end": end}
