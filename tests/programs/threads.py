"""A Python program of several threads that hash, of one that sleeps, and of one that waits.

It prints how many rounds it did and the chains that it has got; who knows the rounds can check
them. Started by tests/programs/test_python.py, which needs no cooperation apart from the FIFOs.
"""

import hashlib
import os
import queue
import sys
import threading
import time
from pathlib import Path

folder = Path(os.environ["VICTIM_FOLDER"])
stop = threading.Event()
results: queue.Queue[tuple[int, int, str]] = queue.Queue()
at_work = threading.Barrier(5)


def chain(number: int) -> None:
    digest = b"%d" % number
    rounds = 0
    at_work.wait()
    while not stop.is_set() or rounds < 1000:
        digest = hashlib.sha256(digest).digest()
        rounds += 1
    results.put((number, rounds, digest.hex()))


def doze() -> None:
    at_work.wait()
    while not stop.is_set():
        before = time.monotonic()
        time.sleep(0.01)
        assert time.monotonic() - before >= 0.0099, "slept too short"


workers = [threading.Thread(target=chain, args=(n,), name=f"chain{n}") for n in range(3)]
workers.append(threading.Thread(target=doze))
for worker in workers:
    worker.start()
at_work.wait()
(folder / "ready").write_text("ready\n")
(folder / "go").open().close()
stop.set()
for worker in workers:
    worker.join()
while not results.empty():
    print(*results.get())
sys.stdout.flush()
print("EXIT-SUCCESS")
