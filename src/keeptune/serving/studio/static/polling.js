// Repeats a request while a view is shown.

/** Runs `task` now, and again `milliseconds` after each end, until `signal` aborts. A hidden tab waits. */
export async function every(milliseconds, signal, task) {
  await task();
  const repeat = async () => {
    if (signal.aborted) return;
    try {
      if (!document.hidden) await task();
    } catch (error) {
      if (signal.aborted) return;
      console.warn(error.message); // the server may come back
    }
    setTimeout(repeat, milliseconds);
  };
  setTimeout(repeat, milliseconds);
}
