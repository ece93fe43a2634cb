// The tools that point at the photo. Each sketches what it would do; `apply` makes a step of it.

import { type Place, type Prompt, type State, type Step, answer } from "./api.js";
import type { PhotoView, Pointing } from "./photo.js";

export const TOOLS = {
  select: { label: "Select", key: "v", hint: "Click objects; with Shift, several." },
  click: { label: "Click", key: "c", hint: "Click what belongs to the object; with Alt or the right button, what does not." },
  box: { label: "Box", key: "x", hint: "Draw a box around the object." },
  paint: { label: "Paint", key: "p", hint: "Paint what belongs to the object." },
  erase: { label: "Erase", key: "e", hint: "Paint what does not belong to the selected object." },
  split: { label: "Split", key: "s", hint: "Draw a line across the selected object." },
  measure: { label: "Measure", key: "l", hint: "Draw a line between two points whose distance you know." },
} as const;
export type ToolName = keyof typeof TOOLS;

/** What a tool needs of the page. */
export interface Bench {
  state(): State;
  /** The object that is changed: the one that is selected, if it is one only. */
  target(): number | null;
  photo: PhotoView;
  brush(): number;
  metres(): number;
  say(text: string): void;
  /** Called when there is something to apply, or no longer. */
  ready(ready: boolean): void;
}

export interface Tool extends Pointing {
  /** The step that was sketched; null if there is none. */
  step(): Step | null;
}

/** Takes a place at working size to one of the photo as given. */
function given(state: State, [u, v]: Place): Place {
  return [(u * state.original[0]) / state.size[0], (v * state.original[1]) / state.size[1]];
}

function sorted([u0, v0]: Place, [u1, v1]: Place): [number, number, number, number] {
  return [Math.min(u0, u1), Math.min(v0, v1), Math.max(u0, u1), Math.max(v0, v1)];
}

/** Clicks or a box: asks the network what they mean, and shows it. */
function prompting(bench: Bench, boxes: boolean): Tool {
  const inside: Place[] = [];
  const outside: Place[] = [];
  let corner: Place | null = null;
  let box: [number, number, number, number] | null = null;
  let asked = 0;
  const sketch = (outline = "") => bench.photo.sketch({ outline, inside, outside, box });

  function prompt(): Prompt | null {
    if (inside.length === 0 && box === null) return null;
    const state = bench.state();
    const places = (each: Place[]) => each.map((place) => given(state, place));
    const scaled = box && ([...given(state, [box[0], box[1]]), ...given(state, [box[2], box[3]])] as typeof box);
    return { object: bench.target() ?? state.next_id, inside: places(inside), outside: places(outside), box: scaled };
  }

  async function ask(): Promise<void> {
    const wanted = prompt();
    sketch();
    if (wanted === null) return;
    const number = ++asked;
    const found = await answer(wanted);
    if (number !== asked) return; // another click came in between
    sketch(found.outline);
    bench.ready(found.area > 0);
    bench.say(found.area > 0 ? `${found.label}, ${found.area} pixels. Enter applies it.` : "This means nothing. Add clicks.");
  }

  return {
    press(place, aside) {
      if (boxes) corner = place;
      else (aside ? outside : inside).push(place);
    },
    move(place) {
      if (corner === null) return;
      box = sorted(corner, place);
      sketch();
    },
    release(place) {
      if (boxes) {
        box = corner && sorted(corner, place);
        if (box && (box[0] === box[2] || box[1] === box[3])) box = null;
        corner = null;
      }
      ask().catch((error: Error) => bench.say(error.message));
    },
    step: () => {
      const wanted = prompt();
      return wanted && { kind: "prompt", ...wanted };
    },
  };
}

function painting(bench: Bench, adds: boolean): Tool {
  let last: Place | null = null;
  const dab = (place: Place) => {
    if (last === null) return;
    bench.photo.stroke(last, place, bench.brush());
    last = place;
  };
  return {
    press(place) {
      last = place;
      dab(place);
    },
    move: dab,
    release(place) {
      dab(place);
      last = null;
      bench.ready(true);
      bench.say("Enter applies what was painted.");
    },
    step() {
      const runs = bench.photo.paintedRuns();
      const object = bench.target() ?? (adds ? bench.state().next_id : null);
      return runs && object !== null ? { kind: "painted", object, adds, runs } : null;
    },
  };
}

function lining(bench: Bench, made: (start: Place, end: Place) => Step | null, hint: string): Tool {
  let start: Place | null = null;
  let line: [Place, Place] | null = null;
  const draw = (place: Place) => {
    if (start === null) return;
    line = [start, place];
    bench.photo.sketch({ line });
  };
  return {
    press: (place) => (start = place),
    move: draw,
    release(place) {
      draw(place);
      start = null;
      bench.ready(true);
      bench.say(hint);
    },
    step: () => line && made(given(bench.state(), line[0]), given(bench.state(), line[1])),
  };
}

export function tool(name: ToolName, bench: Bench): Tool | null {
  switch (name) {
    case "select":
      return null;
    case "click":
      return prompting(bench, false);
    case "box":
      return prompting(bench, true);
    case "paint":
      return painting(bench, true);
    case "erase":
      return painting(bench, false);
    case "split":
      return lining(
        bench,
        (start, end) => {
          const object = bench.target();
          return object === null ? null : { kind: "split", object, part: bench.state().next_id, start, end };
        },
        "Enter splits the selected object along this line.",
      );
    case "measure":
      return lining(
        bench,
        (start, end) => (bench.metres() > 0 ? { kind: "length", start, end, metres: bench.metres() } : null),
        "Give the length in metres; Enter applies it.",
      );
  }
}
