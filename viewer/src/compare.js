// Photo against render: a slider, blinking, outlines, difference.

const BLINK_MS = 700;

/** Wires the comparison: `figure` holds the stacked pictures, one radio button per mode and the slider. */
export function wireCompare(figure) {
  const slider = figure.querySelector("input[type=range]");
  const stack = figure.querySelector(".stack");
  let timer = 0;

  function slide() {
    stack.style.setProperty("--cut", `${slider.value}%`);
  }

  function show(mode) {
    stack.dataset.mode = mode;
    stack.classList.remove("off");
    clearInterval(timer);
    if (mode === "blink") timer = setInterval(() => stack.classList.toggle("off"), BLINK_MS);
  }

  slider.addEventListener("input", slide);
  figure.querySelectorAll("input[name=compare]").forEach((radio) => {
    radio.addEventListener("change", () => show(radio.value));
    if (radio.checked) show(radio.value);
  });
  slide();
}
