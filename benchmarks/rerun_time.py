"""How long the server takes to answer a moved head selector on the self-attention lesson.

    streamlit run app.py --server.port 8501      (in another terminal, nothing else running)
    python benchmarks/rerun_time.py --port 8501

A browser-less client speaks Streamlit's own websocket protocol, opens the lesson with a sentence of 16 tokens, and then
moves the head selector 20 times after three warm-ups. The time runs from sending the change to the message that the
script has finished, all figures received: what the server and the loopback need, without drawing.
"""

import argparse
import statistics
import time
from urllib.parse import urlencode

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import ClientConnection, connect

SENTENCE = "The old king looked at the little bird and the bird looked at the king"  # 16 tokens with the start


def run_script(socket: ClientConnection, message: BackMsg) -> tuple[float, bytes, dict[str, list[str]]]:
    """Send one rerun; (seconds until the script has finished, what was received, options of the menus by their id)."""
    start, received, menus = time.perf_counter(), b"", {}
    socket.send(message.SerializeToString())
    while True:
        data = socket.recv(timeout=60)
        received += data
        forward = ForwardMsg()
        forward.ParseFromString(data)
        kind = forward.WhichOneof("type")
        if kind == "delta" and forward.delta.new_element.WhichOneof("type") == "selectbox":
            menu = forward.delta.new_element.selectbox
            menus[menu.id] = list(menu.options)
        if kind == "script_finished":
            return time.perf_counter() - start, received, menus


def menus_text(heads: list[str], n: int) -> str:
    """What the description of the map says of the head chosen in run `n`: `layer 4, head 2`."""
    return heads[(n + 1) % len(heads)].lower()


def main() -> None:
    """Measure and print median, minimum and maximum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8501)
    parser.add_argument("--step", type=int, default=4)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--model", help="such as kept:smollm2-135m-instruct; default: the usual one")
    options = parser.parse_args()
    asked = {"text": SENTENCE, "step": options.step, "lang": "en", "model": options.model}
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    url = f"ws://127.0.0.1:{options.port}/_stcore/stream"
    with connect(url, subprotocols=["streamlit"], max_size=None, origin=f"http://127.0.0.1:{options.port}") as socket:
        message = BackMsg()
        message.rerun_script.query_string = query
        message.rerun_script.page_name = "self-attention"
        first, _, menus = run_script(socket, message)
        head = next(name for name in menus if name.endswith("head_menu"))
        times, sizes = [], []
        for n in range(options.times + 3):
            message.rerun_script.ClearField("widget_states")
            state = message.rerun_script.widget_states.widgets.add()
            state.id, state.string_value = head, menus[head][(n + 1) % len(menus[head])]
            seconds, received, _ = run_script(socket, message)
            if menus_text(menus[head], n).encode() not in received:
                raise SystemExit("the page did not answer with the head that was chosen")
            times.append(seconds)
            sizes.append(len(received))
    times = [1000 * t for t in times[3:]]
    print(
        f"first visit {1000 * first:.0f} ms; {len(menus[head])} heads; {statistics.median(sizes) / 1024:.0f} KiB a run"
    )
    print(f"head selector, step {options.step}: median of {len(times)} runs {statistics.median(times):.0f} ms")
    print(f"  fastest {min(times):.0f} ms, slowest {max(times):.0f} ms")


if __name__ == "__main__":
    main()
