// Whether everything was in view: approving starts when the last mark has been on the screen.

/**
 * @param {Element[]} marks
 * @param {AbortSignal} signal
 * @param {() => void} done runs once, when every mark has been in view
 */
export function watch(marks, signal, done) {
  const left = new Set(marks);
  const observer = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (isIntersecting && left.delete(target)) observer.unobserve(target);
      }
      if (left.size === 0 && !signal.aborted) {
        observer.disconnect();
        done();
      }
    },
  );
  for (const mark of marks) observer.observe(mark);
  signal.addEventListener("abort", () => observer.disconnect());
  return {
    all: () => left.size === 0,
    /** Scrolls to what has not been seen yet. */
    next: () => {
      const [first] = left;
      first?.scrollIntoView({ block: "center", behavior: matchMedia("(prefers-reduced-motion)").matches ? "auto" : "smooth" });
    },
  };
}
