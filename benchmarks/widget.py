"""Times of the widget as a person feels them, in a real browser on this machine.

    python benchmarks/widget.py --family pocket --output results/widget.json
    python benchmarks/widget.py --family smollm --askers 4 --output results/widget_smollm.json

Starts `python -m proxy_tuning demo --family ...` and measures from the outside: its start, the first word,
the tokens a second of the steered answer and all three answers in Chromium, and clients that ask at once.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from gradio_client import Client
from playwright.sync_api import sync_playwright

from proxy_tuning.families import FAMILIES, load_tokenizer
from proxy_tuning.records import ROOT, machine, write_json
from proxy_tuning.widget.topics import Polls

# Notes when Ask was pressed, when the steered answer got its first and its last word, and when all
# three were complete.
WATCH = """() => {
  document.querySelector('#pt-ask').addEventListener('click', () => {
    window.asked = {begun: performance.now()};
  }, true);
  const look = part => document.querySelector(`.pt-steered ${part}`)?.textContent.trim();
  new MutationObserver(() => {
    const text = look('.pt-answer');
    if (text) window.asked.first ??= performance.now();
    if (text && text !== window.asked.text) {
      window.asked.text = text;
      window.asked.grown = performance.now();
    }
    if (look('.pt-verdict')) window.asked.last ??= performance.now();
  }).observe(document.querySelector('#pt-answers'),
    {subtree: true, childList: true, characterData: true});
}"""


def start(family):
    """A new demo of a family: (process, its address, seconds to the first line, seconds until it serves)."""
    begun, said = time.monotonic(), None
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "proxy_tuning", "demo", "--family", family],
        cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        text=True,
        stderr=subprocess.DEVNULL,
    )
    for line in server.stdout:
        said = said or time.monotonic() - begun
        if found := re.search(r"http://[\d.]+:\d+", line):
            return server, found[0], said, time.monotonic() - begun
    raise SystemExit("the demo did not start; run it by itself to see why")


def in_a_browser(address, questions, times):
    """Ask each question so many times: what the page noted each time, in seconds, and the text."""
    found = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(120_000)
        taken = []
        for question in questions[:1] + questions * times:  # the first answer warms up
            page.goto(address)
            page.wait_for_selector("#pt-ask")
            page.evaluate(WATCH)
            page.fill("#pt-question textarea", question)
            page.click("#pt-ask")
            page.wait_for_function("window.asked?.last")
            taken.append(page.evaluate("asked"))
        browser.close()
    for each in taken:
        for name in ("first", "grown", "last"):
            each[name] = (each[name] - each["begun"]) / 1000
    return taken[1:]


def at_once(address, question, askers):
    """Seconds until each of so many clients, asking at the same moment, has its answer."""
    clients = [Client(address, verbose=False) for _ in range(askers)]
    ready = threading.Barrier(askers)

    def one(client):
        ready.wait()
        begun = time.monotonic()
        client.predict(question, api_name="/ask")
        return time.monotonic() - begun

    with ThreadPoolExecutor(askers) as pool:
        return list(pool.map(one, clients))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default="pocket", choices=list(FAMILIES))
    parser.add_argument("--output", help="JSON file for the figures")
    parser.add_argument("--starts", type=int, default=3, help="default 3")
    parser.add_argument("--times", type=int, default=5, help="each example so often, default 5")
    parser.add_argument("--askers", type=int, default=20, help="default 20")
    options = parser.parse_args()
    tokenizer = load_tokenizer(FAMILIES[options.family].base)
    chats = bool(tokenizer.chat_template)
    questions = [each.question for each in Polls.examples if each.chat in (None, chats)]

    seconds = {}

    def note(what, taken):
        seconds[what] = [round(each, 3) for each in taken]
        print(
            f"{what:>20}  median {statistics.median(taken):6.2f} s, {min(taken):.2f} to "
            f"{max(taken):.2f} s, {len(taken)} times",
            flush=True,
        )

    starts = []
    for number in range(options.starts):
        server, address, *times = start(options.family)
        starts.append(times)
        if number < options.starts - 1:
            server.terminate()
            server.wait()
    try:
        note("first line", [said for said, _ in starts])
        note("serving", [ready for _, ready in starts])
        taken = in_a_browser(address, questions, options.times)
        note("first word", [each["first"] for each in taken])
        note("three answers", [each["last"] for each in taken])
        note(f"{options.askers} askers at once", at_once(address, questions[0], options.askers))
    finally:
        server.terminate()
        server.wait()
    counted = [(len(tokenizer(each["text"])["input_ids"]) - 1, each) for each in taken]
    rates = [n / (each["grown"] - each["first"]) for n, each in counted if n > 10]
    rate = statistics.median(rates)
    print(f"{'steered answer':>20}  median {rate:.1f} tokens a second after its first word")
    if options.output:
        record = {
            "command": "python " + " ".join(sys.argv),
            "seconds": seconds,
            "tokens_a_second": [round(rate, 1) for rate in rates],
            "busy": [round(load, 2) for load in os.getloadavg()],
            "machine": machine(),
        }
        write_json(options.output, record)


if __name__ == "__main__":
    main()
