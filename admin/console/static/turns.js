// Requests whose responses overlap, and requests that are repeated.

// turns orders the responses of the requests for one place. The function that it returns
// begins a request. It returns a function for the response, which reports whether to show
// it: not if the response of a later request is shown already.
export function turns() {
  let begun = 0, shown = 0;
  return () => {
    const turn = ++begun;
    return () => {
      if (turn < shown) return false;
      shown = turn;
      return true;
    };
  };
}

// repeat returns a function that does some work, and does it again ms after its end as long
// as the work resolves to true. While the page is hidden it pauses; the work is done as
// soon as the page can be seen again. There is one timer, however often it is called.
export function repeat(work, ms) {
  let timer, latest = 0;
  async function now() {
    clearTimeout(timer);
    const turn = ++latest;
    const again = await work();
    if (again && turn === latest && !document.hidden) timer = setTimeout(now, ms);
  }
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(timer);
    else if (latest) now();
  });
  return now;
}
