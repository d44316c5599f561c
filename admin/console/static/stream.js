// Follows the events of a run by EventSource, over lost connections.
//
// EventSource reconnects by itself and sends the id of the last event that it
// received. At any status except 200 it stops without a reason: the end (204), an
// expired session (401), a server that restarts (503). follow then asks once with
// fetch.

import { parse, url } from "./api.js";

const pause = 3000;
const terminal = new Set(["run_completed", "run_failed", "run_cancelled", "run_timed_out"]);

// follow reports each event once and in order: on.event(event), on.gap(from, to) for
// purged events, on.state(word) with live, lost, ended, signed-out or absent.
export function follow(run, on) {
  let last = 0n, source, done = false;
  const address = () => url(`api/runs/${run}/events${last ? `?after_event_id=${last}` : ""}`);

  function finish(state) {
    done = true;
    source?.close();
    on.state(state);
  }

  function open() {
    source = new EventSource(address());
    source.onopen = () => on.state("live");
    source.onmessage = (message) => {
      const event = parse(message.data);
      const id = BigInt(String(event.id));
      if (id <= last) return;
      last = id;
      on.event(event);
      if (terminal.has(event.event_type)) finish("ended");
    };
    source.addEventListener("gap", (message) => {
      const gap = parse(message.data);
      on.gap(gap.from_id, gap.to_id);
    });
    source.onerror = () => {
      if (done) return;
      on.state("lost");
      if (source.readyState === EventSource.CLOSED) why();
    };
  }

  async function why() {
    const abort = new AbortController();
    let status = 0;
    try {
      const answer = await fetch(address(), { signal: abort.signal, cache: "no-store", headers: { Accept: "text/event-stream" } });
      status = answer.redirected ? 401 : answer.status;
      if (status === 410) {
        const purged = BigInt(String(parse(await answer.text()).purged_to));
        on.gap(last + 1n, purged);
        last = purged;
        return open();
      }
    } catch {
      // the network, or a proxy
    } finally {
      abort.abort();
    }
    if (status === 204) return finish("ended");
    if (status === 401) return finish("signed-out");
    if (status === 400 || status === 404) return finish("absent");
    setTimeout(open, pause);
  }

  open();
}
