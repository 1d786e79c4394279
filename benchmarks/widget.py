"""Times of the widget as a person feels them, in a real browser on this machine.

    python benchmarks/widget.py --output results/widget.json

Starts `python -m proxy_tuning demo --family pocket` and measures from the outside: its start, the
first word and all three answers in Chromium, 20 clients that ask at once; and then how many tokens
a second come with GPT-2's and distilGPT-2's shapes (random weights: speed does not depend on them).
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

import torch
from gradio_client import Client
from playwright.sync_api import sync_playwright
from transformers import GPT2Config, GPT2LMHeadModel

from proxy_tuning import ProxyTunedForCausalLM
from proxy_tuning.decoding import stream_side_by_side
from proxy_tuning.records import ROOT, machine, write_json
from proxy_tuning.widget.topics import Polls

EXAMPLES = [example.question for example in Polls.examples if not example.chat]

# Notes when Ask was pressed, when the steered answer got its first word and when all were complete.
WATCH = """() => {
  document.querySelector('#pt-ask').addEventListener('click', () => {
    window.asked = {begun: performance.now()};
  }, true);
  const look = part => document.querySelector(`.pt-steered ${part}`)?.textContent.trim();
  new MutationObserver(() => {
    if (look('.pt-answer')) window.asked.first ??= performance.now();
    if (look('.pt-verdict')) window.asked.last ??= performance.now();
  }).observe(document.querySelector('#pt-answers'),
    {subtree: true, childList: true, characterData: true});
}"""


def start():
    """A new demo: (process, its address, seconds to the first line, seconds until it serves)."""
    begun, said = time.monotonic(), None
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "proxy_tuning", "demo", "--family", "pocket"],
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


def in_a_browser(address, times):
    """Ask each example so many times: two lists of seconds, to the first word and to the end."""
    found = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(120_000)
        taken = []
        for question in EXAMPLES[:1] + EXAMPLES * times:  # the first answer warms up
            page.goto(address)
            page.wait_for_selector("#pt-ask")
            page.evaluate(WATCH)
            page.fill("#pt-question textarea", question)
            page.click("#pt-ask")
            page.wait_for_function("window.asked?.last")
            taken.append(page.evaluate("[asked.first - asked.begun, asked.last - asked.begun]"))
        browser.close()
    first, last = zip(*taken[1:], strict=True)
    return [ms / 1000 for ms in first], [ms / 1000 for ms in last]


def at_once(address, askers):
    """Seconds until each of so many clients, asking at the same moment, has its answer."""
    clients = [Client(address, verbose=False) for _ in range(askers)]
    ready = threading.Barrier(askers)

    def one(client):
        ready.wait()
        begun = time.monotonic()
        client.predict(EXAMPLES[0], api_name="/ask")
        return time.monotonic() - begun

    with ThreadPoolExecutor(askers) as pool:
        return list(pool.map(one, clients))


def tokens_a_second(tokens=40):
    """Tokens a second in each of the three texts, with the shapes of GPT-2 and distilGPT-2."""
    torch.manual_seed(0)
    parts = [GPT2LMHeadModel(GPT2Config(n_layer=layers)).eval() for layers in (12, 6, 6)]
    model = ProxyTunedForCausalLM(*parts)
    times = []
    for _ in stream_side_by_side(
        model, torch.randint(50257, (1, 20)), max_new_tokens=tokens, eos_token_id=-1
    ):
        times.append(time.monotonic())
    return (len(times) - 1) / (times[-1] - times[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", help="JSON file for the figures")
    parser.add_argument("--starts", type=int, default=3, help="default 3")
    parser.add_argument("--times", type=int, default=5, help="each example so often, default 5")
    parser.add_argument("--askers", type=int, default=20, help="default 20")
    options = parser.parse_args()

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
        server, address, *times = start()
        starts.append(times)
        if number < options.starts - 1:
            server.terminate()
            server.wait()
    try:
        note("first line", [said for said, _ in starts])
        note("serving", [ready for _, ready in starts])
        first, last = in_a_browser(address, options.times)
        note("first word", first)
        note("three answers", last)
        note(f"{options.askers} askers at once", at_once(address, options.askers))
    finally:
        server.terminate()
        server.wait()
    rate = tokens_a_second()

    print(f"{'shapes of GPT-2':>20}  {rate:.1f} tokens a second in each of three texts")
    if options.output:
        record = {
            "command": "python " + " ".join(sys.argv),
            "seconds": seconds,
            "tokens_a_second_gpt2_shapes": round(rate, 1),
            "busy": [round(load, 2) for load in os.getloadavg()],
            "machine": machine(),
        }
        write_json(options.output, record)


if __name__ == "__main__":
    main()
